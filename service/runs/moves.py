"""The steps every change of status is made of. For ``lifecycle`` and its parts only."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.models import Pack, PackStatus, Run, RunStatus
from service.runs.run_counts import LIVE, RunChange
from service.runs.settlement import settle
from service.runs.transitions import check_pack, check_run


@dataclass(frozen=True)
class Wakeup:
    """One message to send once the transaction is committed."""

    pack_id: int
    queue: str
    priority: int


@dataclass(frozen=True)
class Failure:
    """Why an attempt ended without a result.

    ``text`` is what readers of a run are told: a cause, without paths and traces. ``log`` is the end of what the
    process wrote; it is kept with the attempt, which the API does not show.
    """

    code: str
    text: str
    log: str = ""


def live_runs(session: Session, pack: Pack) -> Sequence[Run]:
    """Read the runs of a held pack that have not ended."""
    return session.scalars(
        select(Run)
        .where(Run.pack_id == pack.id, Run.status.in_(LIVE))
        .order_by(Run.member)
        .execution_options(populate_existing=True)
    ).all()


def move_runs(session: Session, now: datetime, pack: Pack, moves: Iterable[tuple[Run, RunStatus]]) -> None:
    """Change the status of runs of a held pack and settle their experiments."""
    settle(
        session,
        now,
        [change(run, after, pack.fence, now) for run, after in moves if run.status is not after],
    )


def change(run: Run, after: RunStatus, fence: int, now: datetime) -> RunChange:
    """Change one run of a held pack; ``settle`` must follow."""
    before = run.status
    check_run(before, after)
    run.status = after
    if after.is_terminal:
        run.finished_at = now
    return RunChange(run, before, fence)


def end_pack(pack: Pack, now: datetime, status: PackStatus) -> None:
    """End a held pack."""
    check_pack(pack.status, status)
    pack.status = status
    pack.lease_until = None
    pack.finished_at = now
