"""Packs whose owner is dead, or has not been heard of for a lease: they are taken back."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.database import database_now
from service.models import AttemptOutcome, Pack, PackStatus
from service.runs.aftermath import crashed, end_attempt, requeue
from service.runs.moves import Failure, Wakeup


def reap(session: Session, crash_limit: int, limit: int = 50) -> list[Wakeup]:
    """Take back packs whose lease ran out. What was to be cancelled is cancelled, the rest queued again.

    Args:
        crash_limit: for packs whose worker did not say its own.
        limit: packs a call.
    """
    now = database_now(session)
    expired = session.scalars(
        select(Pack)
        .where(Pack.status == PackStatus.RUNNING, Pack.lease_until < now)
        .order_by(Pack.id)
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
        .execution_options(populate_existing=True)
    ).all()
    return _expire(session, now, expired, "lease_expired", crash_limit)


def has_expired(session: Session) -> bool:
    """Whether ``reap`` would find anything; takes no lock."""
    expired = select(Pack.id).where(
        Pack.status == PackStatus.RUNNING, Pack.lease_until < database_now(session)
    )
    return session.scalar(expired.limit(1)) is not None


def take_over(session: Session, predecessor: str, crash_limit: int, *, mine: str) -> list[Wakeup]:
    """Take back the packs of workers whose id begins with ``predecessor``; the caller knows they are dead.

    Args:
        predecessor: what the ids of the dead begin with.
        crash_limit: for packs whose worker did not say its own.
        mine: the caller's own worker id, whose packs it keeps.
    """
    now = database_now(session)
    orphaned = session.scalars(
        select(Pack)
        .where(
            Pack.status == PackStatus.RUNNING,
            Pack.worker_id.startswith(predecessor, autoescape=True),
            Pack.worker_id != mine,
        )
        .order_by(Pack.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).all()
    return _expire(session, now, orphaned, "worker_died", crash_limit)


def _expire(
    session: Session, now: datetime, packs: Iterable[Pack], code: str, crash_limit: int
) -> list[Wakeup]:
    wakeups: list[Wakeup] = []
    for pack in packs:
        failure = Failure(code, "its worker stopped answering")
        if pack.claimed_ahead:
            # It waited for another pack, which its worker may have died of; this one had not begun.
            end_attempt(session, pack, now, AttemptOutcome.EXPIRED, failure)
            wakeups += requeue(session, now, pack)
            continue
        wakeups += crashed(
            session, now, pack, AttemptOutcome.EXPIRED, failure, pack.crash_limit or crash_limit
        )
    return wakeups
