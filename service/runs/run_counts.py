"""How many runs of an experiment stand where: counted once, then kept by every change of a status.

The counts lie in the experiment's row. Whoever changes runs holds that row (``settlement``), so no two writers add to
them at once, and a change costs the same in a grid of ten cells and of 10⁵. A row whose counts are not known, because
a version before them wrote it, is counted when it is next looked at; ``settlement.repair_counts`` mends wrong ones.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import bindparam, func, or_, select
from sqlalchemy.orm import Session

from service.models import Experiment, ExperimentRun, Pack, Run, RunStatus

logger = logging.getLogger(__name__)

LIVE = tuple(status for status in RunStatus if not status.is_terminal)

Counts = dict[RunStatus, int]

# Built once: it is asked with every word on a pack's progress, and building it takes longer than the answer.
_BEGUN = (
    select(Pack.experiment_id, Pack.step, Pack.steps, func.count())
    .join(Run, Run.pack_id == Pack.id)
    .where(
        Pack.experiment_id.in_(bindparam("experiment_ids", expanding=True)),
        Pack.started_at.is_not(None),
        Pack.finished_at.is_(None),
        Pack.steps > 0,
        Run.status.in_(LIVE),
    )
    .group_by(Pack.experiment_id, Pack.id, Pack.step, Pack.steps)
)


@dataclass(frozen=True)
class RunChange:
    """One run that has just left ``before`` for its present status."""

    run: Run
    before: RunStatus
    fence: int


def counts_of(session: Session, experiment: Experiment) -> Counts:
    """Number of runs per status; no row of a run is read where the counts are known."""
    if experiment.runs_by_status is None:
        return recounted(session, experiment.id)
    return {RunStatus(name): count for name, count in experiment.runs_by_status.items()}


def recounted(session: Session, experiment_id: UUID) -> Counts:
    """Number of runs per status, from the runs themselves."""
    rows = session.execute(
        select(Run.status, func.count())
        .join(ExperimentRun, ExperimentRun.run_id == Run.id)
        .where(ExperimentRun.experiment_id == experiment_id)
        .group_by(Run.status)
    )
    return {row[0]: row[1] for row in rows}


def store_counts(experiment: Experiment, counts: Counts, now: datetime) -> None:
    """Keep what was counted just now; the experiment's row must be held."""
    experiment.runs_by_status = {status.value: count for status, count in counts.items() if count}
    experiment.counted_at = now


def add_changes(
    session: Session, now: datetime, experiment: Experiment, changes: Sequence[RunChange]
) -> None:
    """Move the changed runs from one count to the other; they are flushed, and the experiment's row is held."""
    counts = counts_of(session, experiment)
    if experiment.runs_by_status is None:
        store_counts(experiment, counts, now)  # counted after the changes: they are in it
        return
    for change in changes:
        counts[change.before] = counts.get(change.before, 0) - 1
        counts[change.run.status] = counts.get(change.run.status, 0) + 1
    if min(counts.values()) < 0:
        logger.warning("experiment.counts_repaired id=%s", experiment.id)
        store_counts(experiment, recounted(session, experiment.id), now)
        return
    experiment.runs_by_status = {status.value: count for status, count in counts.items() if count}


def begun_shares(session: Session, experiment_ids: Iterable[UUID]) -> dict[UUID, float]:
    """What is done of the runs that are not ended, in runs: the sum of their packs' shares.

    Reads the packs that were begun and have not ended (an index knows them) and their runs. A live run belongs to the
    experiment of its pack: only ended ones are shared (docs/decisions/0004).
    """
    rows = session.execute(_BEGUN, {"experiment_ids": list(experiment_ids)})
    shares: dict[UUID, float] = {}
    for experiment_id, step, steps, live in rows:
        shares[experiment_id] = shares.get(experiment_id, 0.0) + live * min(1.0, step / steps)
    return shares


def progress(experiment: Experiment, counts: Counts, begun: float) -> float:
    """Share of an experiment's work that is done, 0 to 1: of each run all, its pack's share, or nothing."""
    if experiment.status.is_terminal:
        return 1.0
    total = sum(counts.values())
    ended = sum(count for status, count in counts.items() if status.is_terminal)
    return min(1.0, (ended + begun) / total) if total else 0.0


def unchecked(session: Session, now: datetime, age: timedelta, limit: int) -> Sequence[UUID]:
    """Experiments at work whose counts were not compared with their runs for ``age``, the longest first."""
    return session.scalars(
        select(Experiment.id)
        .where(
            Experiment.finished_at.is_(None),
            or_(Experiment.counted_at.is_(None), Experiment.counted_at < now - age),
        )
        .order_by(Experiment.counted_at, Experiment.id)
        .limit(limit)
    ).all()
