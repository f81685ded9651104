"""What a person may do to an experiment besides cancelling it: pause it, let it go on, try a run again."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from bfc_core.packing import estimate_pack
from bfc_core.specs import RunSpec
from service.database import database_now
from service.models import (
    Experiment,
    ExperimentRun,
    ExperimentStatus,
    Pack,
    PackStatus,
    Run,
    RunStatus,
    Webhook,
)
from service.runs.holding import held, held_run
from service.runs.moves import Wakeup
from service.runs.run_counts import RunChange
from service.runs.settlement import settle, settle_experiment
from service.runs.transitions import RETRIABLE


class NotPausableError(Exception):
    """It has ended, is being cancelled, or is paused already."""

    def __init__(self, experiment_id: UUID, status: ExperimentStatus) -> None:
        self.experiment_id = experiment_id
        self.status = status
        super().__init__(f"experiment {experiment_id} is {status}")


class NotPausedError(Exception):
    """There is nothing to resume."""

    def __init__(self, experiment_id: UUID, status: ExperimentStatus) -> None:
        self.experiment_id = experiment_id
        self.status = status
        super().__init__(f"experiment {experiment_id} is {status}")


class NotRetriableError(Exception):
    """The run has an answer, or may still get one."""

    def __init__(self, run_id: UUID, status: RunStatus) -> None:
        self.run_id = run_id
        self.status = status
        super().__init__(f"run {run_id} is {status}")


def pause_experiment(session: Session, experiment_id: UUID) -> Experiment:
    """Hold every pack that the experiment asked for first; running ones are checkpointed and given back.

    Raises:
        NoResultFound: there is no such experiment.
        NotPausableError: it is not queued or running.
    """
    now = database_now(session)
    packs, experiment = held(session, experiment_id, *_of(experiment_id))
    if experiment.paused_at is not None and not experiment.status.is_terminal:
        raise NotPausableError(experiment.id, ExperimentStatus.PAUSED)
    if experiment.status not in {ExperimentStatus.QUEUED, ExperimentStatus.RUNNING}:
        raise NotPausableError(experiment.id, experiment.status)
    experiment.paused_at = now
    for pack in packs:
        pack.held_at = now
    settle_experiment(session, now, experiment)
    return experiment


def resume_experiment(session: Session, experiment_id: UUID) -> tuple[Experiment, list[Wakeup]]:
    """Let a paused experiment go on, from its checkpoints.

    Raises:
        NoResultFound: there is no such experiment.
        NotPausedError: it is not paused.
    """
    now = database_now(session)
    packs, experiment = held(session, experiment_id, *_of(experiment_id))
    if experiment.paused_at is None or experiment.status.is_terminal:
        raise NotPausedError(experiment.id, experiment.status)
    experiment.paused_at = None
    wakeups = []
    for pack in packs:
        pack.held_at = None
        if pack.status is PackStatus.QUEUED:
            pack.publish_at = now
            wakeups.append(Wakeup(pack.id, pack.queue, pack.priority))
    settle_experiment(session, now, experiment)
    return experiment, wakeups


def retry_run(session: Session, run_id: UUID) -> tuple[Run, list[Wakeup]]:
    """Queue a failed or cancelled run again, in a pack of its own; its experiments are open again.

    Where its experiment is paused it stays so, and the run waits with the others for it to go on.

    Raises:
        NoResultFound: there is no such run.
        NotRetriableError: it has a report, or is still going on.
    """
    now = database_now(session)
    run, old = held_run(session, run_id)
    if run.status not in RETRIABLE:
        raise NotRetriableError(run.id, run.status)
    pack = _pack_of_its_own(session, run, old, now)
    before, run.status = run.status, RunStatus.QUEUED
    run.error_code = run.message = run.finished_at = run.cancel_requested_at = None
    run.measurements_deleted_at = None
    pack.held_at = _reopen(session, run)
    settle(session, now, [RunChange(run, before, pack.fence)])
    return run, [] if pack.held_at else [Wakeup(pack.id, pack.queue, pack.priority)]


def seconds_of_retry(session: Session, run_id: UUID) -> float:
    """Estimated seconds of a run in a pack of its own, for quotas.

    Raises:
        NoResultFound: there is no such run.
    """
    return estimate_pack([RunSpec.model_validate(session.get_one(Run, run_id).spec)]).seconds


def _pack_of_its_own(session: Session, run: Run, old: Pack, now: datetime) -> Pack:
    """A fresh pack: attempts, crashes and checkpoints of the old one do not count. The old row is held."""
    estimate = estimate_pack([RunSpec.model_validate(run.spec)])
    pack = Pack(
        experiment_id=run.experiment_id,
        queue=old.queue,
        priority=old.priority,
        status=PackStatus.QUEUED,
        members=1,
        estimated_seconds=estimate.seconds,
        estimated_memory_bytes=estimate.memory_bytes,
        run_after=now,
        publish_at=now,
        created_at=now,
    )
    session.add(pack)
    session.flush()
    old.members -= 1
    run.pack_id, run.member = pack.id, 0
    return pack


def _reopen(session: Session, run: Run) -> datetime | None:
    """Open the experiments of a run again, whose next end is told of anew; since when the first asker is paused."""
    ids = select(ExperimentRun.experiment_id).where(ExperimentRun.run_id == run.id)
    experiments = session.scalars(
        select(Experiment)
        .where(Experiment.id.in_(ids))
        .order_by(Experiment.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).all()
    told = [experiment.id for experiment in experiments if experiment.finished_at is not None]
    session.execute(
        update(Webhook)
        .where(Webhook.experiment_id.in_(told))
        .values(attempts=0, next_at=database_now(session), delivered_at=None, error=None)
    )
    for experiment in experiments:
        # The pause of one that has not ended still holds packs, which nothing but its end lets go.
        if experiment.finished_at is not None or experiment.cancel_requested_at is not None:
            experiment.paused_at = None
        experiment.finished_at = experiment.cancel_requested_at = None
    return next((one.paused_at for one in experiments if one.id == run.experiment_id), None)


def _of(experiment_id: UUID) -> tuple[ColumnElement[bool], ...]:
    """Packs that an experiment asked for first and that have not ended."""
    return Pack.experiment_id == experiment_id, Pack.status.in_([PackStatus.QUEUED, PackStatus.RUNNING])
