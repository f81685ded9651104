"""Cancelling: queued runs end at once, running ones are asked through their pack's row."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.database import database_now
from service.models import Experiment, ExperimentRun, ExperimentStatus, Pack, PackStatus, Run, RunStatus
from service.runs.holding import held, held_run
from service.runs.moves import change, end_pack, live_runs
from service.runs.run_counts import LIVE, RunChange
from service.runs.settlement import settle, settle_experiment


class ExperimentAlreadyFinishedError(Exception):
    """Cancelling came too late."""

    def __init__(self, experiment_id: UUID, status: ExperimentStatus) -> None:
        self.experiment_id = experiment_id
        self.status = status
        super().__init__(f"experiment {experiment_id} is already {status}")


class RunAlreadyFinishedError(Exception):
    """Cancelling came too late."""

    def __init__(self, run_id: UUID, status: RunStatus) -> None:
        self.run_id = run_id
        self.status = status
        super().__init__(f"run {run_id} is already {status}")


def cancel_experiment(session: Session, experiment_id: UUID) -> Experiment:
    """Cancel every run that no other experiment waits for: queued ones now, running ones by their owner.

    Raises:
        NoResultFound: there is no such experiment.
        ExperimentAlreadyFinishedError: nothing is left to cancel.
    """
    now = database_now(session)
    shared = (
        select(ExperimentRun.run_id)
        .join(Experiment, Experiment.id == ExperimentRun.experiment_id)
        .where(
            Experiment.id != experiment_id,
            Experiment.finished_at.is_(None),
            Experiment.cancel_requested_at.is_(None),
        )
    )
    mine = select(ExperimentRun.run_id).where(ExperimentRun.experiment_id == experiment_id)
    wanted = Run.id.in_(mine) & Run.id.not_in(shared) & Run.status.in_(LIVE)
    _, experiment = held(session, experiment_id, Pack.id.in_(select(Run.pack_id).where(wanted)))
    if experiment.status.is_terminal:
        raise ExperimentAlreadyFinishedError(experiment.id, experiment.status)
    experiment.cancel_requested_at = experiment.cancel_requested_at or now
    session.flush()
    _cancel_runs(session, now, session.scalars(select(Run).where(wanted).order_by(Run.pack_id, Run.member)))
    settle_experiment(session, now, experiment)
    return experiment


def cancel_run(session: Session, run_id: UUID) -> Run:
    """Cancel one run: at once where it is queued, by its owner where it runs.

    Raises:
        NoResultFound: there is no such run.
        RunAlreadyFinishedError: it ended before.
    """
    now = database_now(session)
    run, _ = held_run(session, run_id)
    if run.status.is_terminal:
        raise RunAlreadyFinishedError(run.id, run.status)
    _cancel_runs(session, now, [run])
    return run


def _cancel_runs(session: Session, now: datetime, runs: Iterable[Run]) -> None:
    """Cancel runs whose packs' rows are held."""
    by_pack: dict[int, list[Run]] = {}
    for run in runs:
        by_pack.setdefault(run.pack_id, []).append(run)
    changes: list[RunChange] = []
    for pack_id, members in by_pack.items():
        pack = session.get_one(Pack, pack_id)
        for run in members:
            run.cancel_requested_at = run.cancel_requested_at or now
            if run.status is RunStatus.CANCELLING:
                continue
            after = RunStatus.CANCELLED if run.status is RunStatus.QUEUED else RunStatus.CANCELLING
            changes.append(change(run, after, pack.fence, now))
        if pack.status is PackStatus.RUNNING:
            pack.cancel_requested_at = now
        else:
            session.flush()
            if not live_runs(session, pack):
                end_pack(pack, now, PackStatus.CANCELLED)
    settle(session, now, changes)
