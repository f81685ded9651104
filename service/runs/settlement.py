"""What a change of runs or packs means for their experiments: status, progress and events.

Whoever settles holds the pack's row already and takes the experiments' rows here, in the order of their ids:
one order for everybody, so nobody deadlocks, and within one experiment event ids grow in commit order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from service.models import Event, EventName, Experiment, ExperimentRun, Pack, PackStatus, Run, RunStatus
from service.models.base import JsonObject
from service.runs.transitions import experiment_status


@dataclass(frozen=True)
class RunChange:
    """One run that has just left ``before`` for its present status."""

    run: Run
    before: RunStatus
    fence: int


def settle(session: Session, now: datetime, changes: Sequence[RunChange]) -> None:
    """Append the events of ``changes`` and bring every experiment that links to these runs up to date."""
    if not changes:
        return
    session.flush()
    by_run = {change.run.id: change for change in changes}
    links = session.execute(
        select(ExperimentRun.experiment_id, ExperimentRun.run_id)
        .where(ExperimentRun.run_id.in_(by_run))
        .order_by(ExperimentRun.position)
    ).all()
    for experiment in _locked(session, {link.experiment_id for link in links}):
        for link in links:
            if link.experiment_id == experiment.id:
                session.add(_run_state(experiment.id, now, by_run[link.run_id]))
        settle_experiment(session, now, experiment)


def settle_progress(session: Session, now: datetime, pack: Pack, runs: Sequence[UUID]) -> None:
    """Append how far a running pack is, for every experiment that waits for it."""
    session.flush()
    experiments = set(
        session.scalars(select(ExperimentRun.experiment_id).where(ExperimentRun.run_id.in_(runs)).distinct())
    )
    for experiment in _locked(session, experiments):
        payload: JsonObject = {
            "pack_id": pack.id,
            "run_ids": [str(run) for run in runs],
            "step": pack.step,
            "steps": pack.steps,
            "progress": min(1.0, pack.step / pack.steps) if pack.steps else 0.0,
        }
        session.add(
            Event(
                experiment_id=experiment.id,
                pack_id=pack.id,
                fence=pack.fence,
                name=EventName.RUN_PROGRESS,
                payload=payload,
                created_at=now,
            )
        )
        _append_experiment_progress(session, now, experiment, count_runs(session, experiment.id))


def settle_experiment(session: Session, now: datetime, experiment: Experiment) -> None:
    """Derive an experiment's status from its runs; its row must be held."""
    session.flush()
    counts = count_runs(session, experiment.id)
    status = experiment_status(
        counts,
        started=experiment.started_at is not None,
        is_cancel_requested=experiment.cancel_requested_at is not None,
        is_paused=experiment.paused_at is not None,
    )
    if experiment.started_at is None and counts.get(RunStatus.RUNNING):
        experiment.started_at = now
    if status.is_terminal and experiment.finished_at is None:
        experiment.finished_at = now
    experiment.status = status
    _append_experiment_progress(session, now, experiment, counts)


def count_runs(session: Session, experiment_id: UUID) -> dict[RunStatus, int]:
    """Number of runs per status, of an experiment."""
    rows = session.execute(
        select(Run.status, func.count())
        .join(ExperimentRun, ExperimentRun.run_id == Run.id)
        .where(ExperimentRun.experiment_id == experiment_id)
        .group_by(Run.status)
    )
    return {row[0]: row[1] for row in rows}


def progress_of(session: Session, experiment: Experiment) -> float:
    """Share of an experiment's work that is done, 0 to 1; packs weigh as many runs as they hold."""
    if experiment.status.is_terminal:
        return 1.0
    part = case(
        (Pack.status.not_in([PackStatus.QUEUED, PackStatus.RUNNING]), 1.0),
        (Pack.steps > 0, 1.0 * Pack.step / func.nullif(Pack.steps, 0)),
        else_=0.0,
    )
    done, total = session.execute(
        select(func.sum(part * Pack.members), func.sum(Pack.members)).where(
            Pack.id.in_(
                select(Run.pack_id)
                .join(ExperimentRun, ExperimentRun.run_id == Run.id)
                .where(ExperimentRun.experiment_id == experiment.id)
            )
        )
    ).one()
    return min(1.0, float(done) / float(total)) if total else 0.0


def _locked(session: Session, ids: set[UUID]) -> Sequence[Experiment]:
    # FOR NO KEY UPDATE (key_share): a foreign key's check, which PostgreSQL repeats when a row is updated twice in
    # one transaction, takes KEY SHARE here; two writers holding that and both asking for FOR UPDATE deadlock.
    return session.scalars(
        select(Experiment)
        .where(Experiment.id.in_(ids))
        .order_by(Experiment.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).all()


def _run_state(experiment_id: UUID, now: datetime, change: RunChange) -> Event:
    run = change.run
    payload: JsonObject = {"run_id": str(run.id), "status": run.status.value, "before": change.before.value}
    if run.error_code is not None:
        payload |= {"code": run.error_code, "message": run.message}
    return Event(
        experiment_id=experiment_id,
        run_id=run.id,
        pack_id=run.pack_id,
        fence=change.fence,
        name=EventName.RUN_STATE,
        payload=payload,
        created_at=now,
    )


def _append_experiment_progress(
    session: Session, now: datetime, experiment: Experiment, counts: dict[RunStatus, int]
) -> None:
    payload: JsonObject = {
        "status": experiment.status.value,
        "progress": progress_of(session, experiment),
        "runs": {status.value: counts.get(status, 0) for status in RunStatus}
        | {"total": experiment.run_count},
    }
    session.add(
        Event(
            experiment_id=experiment.id, name=EventName.EXPERIMENT_PROGRESS, payload=payload, created_at=now
        )
    )
