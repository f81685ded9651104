"""The queue of packs: the most urgent one is claimed, and what nobody claims is woken up for again."""

from collections.abc import Collection, Sequence
from datetime import timedelta

from pydantic import ValidationError
from sqlalchemy import ColumnElement, ScalarSelect, select, update
from sqlalchemy.orm import Session

from bfc_core.specs import RunSpec
from service.database import database_now
from service.models import Attempt, Pack, PackStatus, Run, RunStatus
from service.models.pack import is_waiting
from service.runs.claims import Claim, ClaimedRun, UnreadablePackError
from service.runs.moves import Wakeup, live_runs, move_runs
from service.runs.tallies import tally_wait


def claim(
    session: Session,
    *,
    queue: str,
    worker_id: str,
    device: str,
    lease: timedelta,
    crash_limit: int | None = None,
    is_ahead: bool = False,
    without: Collection[int] = (),
) -> Claim | None:
    """Take the most urgent pack that may run; None where there is none.

    Args:
        crash_limit: the worker's own, which holds for this attempt whoever finds it dead; None: the finder's.
        is_ahead: it will wait for another pack of the same slot; until it has begun, its owner's death does not count
            against it.
        without: packs that are left to others.

    Raises:
        UnreadablePackError: it asks for what this code does not know; the transaction must be rolled back.
    """
    now = database_now(session)
    eligible = (
        select(Pack.id)
        .where(is_waiting(), Pack.queue == queue, Pack.run_after <= now, Pack.id.not_in(without))
        .order_by(Pack.priority.desc(), Pack.id)
        .limit(1)
        .with_for_update(skip_locked=True, key_share=True)
        .scalar_subquery()
    )
    claimed = session.execute(
        update(Pack)
        .where(Pack.id == eligible, Pack.status == PackStatus.QUEUED)
        .values(
            status=PackStatus.RUNNING,
            fence=Pack.fence + 1,
            attempt=Pack.attempt + 1,
            worker_id=worker_id,
            crash_limit=crash_limit,
            claimed_ahead=is_ahead,
            heartbeat_at=now,
            lease_until=now + lease,
            error_code=None,
            error_text=None,
        )
        .returning(Pack.id)
        .execution_options(synchronize_session=False)
    ).scalar_one_or_none()
    if claimed is None:
        return None
    pack = session.get_one(Pack, claimed, populate_existing=True)
    if pack.started_at is None:
        pack.started_at = now
        tally_wait(session, pack.queue, (now - pack.created_at).total_seconds())
    runs = live_runs(session, pack)
    claimed_runs = _readable(pack, runs)
    session.add(
        Attempt(
            pack_id=pack.id,
            fence=pack.fence,
            number=pack.attempt,
            worker_id=worker_id,
            device=device,
            members=len(runs),
            step=pack.checkpoint_step,
            started_at=now,
        )
    )
    for run in runs:
        run.attempts += 1
        run.started_at = run.started_at or now
    move_runs(session, now, pack, [(run, RunStatus.RUNNING) for run in runs])
    return Claim(
        pack_id=pack.id,
        fence=pack.fence,
        attempt=pack.attempt,
        experiment_id=pack.experiment_id,
        runs=claimed_runs,
        is_ahead=is_ahead,
    )


def has_due_wakeups(session: Session) -> bool:
    """Whether ``due_wakeups`` would answer anything; takes no lock."""
    return bool(due_queues(session))


def due_queues(session: Session) -> list[str]:
    """Queues in which a wake-up seems lost; takes no lock.

    However many packs are due, two rows of each queue are read: the index is entered once at each queue's beginning,
    where the pack stands that is due first.
    """
    now = database_now(session)
    named = select(_queue_after(None).label("queue")).cte("queues", recursive=True)
    queues = named.union_all(select(_queue_after(named.c.queue)).where(named.c.queue.is_not(None)))
    # A subquery with a limit, since PostgreSQL would turn EXISTS into a join and read every pack for it.
    due_first = (
        select(Pack.publish_at)
        .where(is_waiting(), Pack.queue == queues.c.queue)
        .order_by(Pack.publish_at)
        .limit(1)
        .scalar_subquery()
    )
    return list(session.scalars(select(queues.c.queue).where(due_first <= now).order_by(queues.c.queue)))


def due_wakeups(session: Session, queue: str, first: timedelta, cap: timedelta, limit: int) -> list[Wakeup]:
    """Packs of a queue whose wake-up seems lost, those first that are due longest.

    Which pack a message names does not matter, since whoever reads it claims the most urgent one. Each call pushes the
    next turn of its packs back, doubling up to ``cap``.
    """
    now = database_now(session)
    due = session.scalars(
        select(Pack)
        .where(is_waiting(), Pack.queue == queue, Pack.publish_at <= now, Pack.run_after <= now)
        .order_by(Pack.publish_at, Pack.id)
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
        .execution_options(populate_existing=True)
    ).all()
    for pack in due:
        pack.publish_at = now + min(cap, first * 2 ** min(pack.publish_count + 1, 30))
        pack.publish_count += 1
        pack.published_at = now
    return [Wakeup(pack.id, pack.queue, pack.priority) for pack in due]


def _readable(pack: Pack, runs: Sequence[Run]) -> tuple[ClaimedRun, ...]:
    try:
        return tuple(ClaimedRun(run.id, RunSpec.model_validate(run.spec)) for run in runs)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = "/".join(str(part) for part in first["loc"])
        raise UnreadablePackError(pack.id, f"{place}: {first['msg']}") from error


def _queue_after(queue: ColumnElement[str] | None) -> ScalarSelect[str]:
    """The first queue by name, behind ``queue``, in which a pack waits; NULL where there is none."""
    first = select(Pack.queue).where(is_waiting()).order_by(Pack.queue).limit(1)
    return (first if queue is None else first.where(Pack.queue > queue)).scalar_subquery()
