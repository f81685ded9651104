"""What a change of runs or packs means for their experiments: status, progress and events.

Whoever settles holds the pack's row already and takes the experiments' rows here, in the order of their ids:
one order for everybody, so nobody deadlocks, and within one experiment event ids grow in commit order.
"""

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from service.database import database_now
from service.models import Base, Event, EventName, Experiment, ExperimentRun, Run, RunStatus
from service.models.base import JsonObject
from service.runs.run_counts import (
    Counts,
    RunChange,
    add_changes,
    begun_shares,
    counts_of,
    progress,
    recounted,
    store_counts,
)
from service.runs.tallies import tally_changes
from service.runs.transitions import experiment_status

logger = logging.getLogger(__name__)

_EVENTS = Base.metadata.tables[Event.__tablename__]


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
    tally_changes(session, changes)
    for experiment in _locked(session, {link.experiment_id for link in links}):
        mine = [by_run[link.run_id] for link in links if link.experiment_id == experiment.id]
        _append(session, [_run_state(experiment.id, now, change) for change in mine])
        add_changes(session, now, experiment, mine)
        settle_experiment(session, now, experiment)


def settle_progress(
    session: Session, now: datetime, pack: tuple[int, int], runs: Sequence[UUID], progress: tuple[int, int]
) -> None:
    """Append how far a running pack is, for every experiment that waits for it.

    Args:
        pack: its id and fence; its row is held and has the progress already.
        runs: of the pack; those that do not run any more are left out.
        progress: step and steps.
    """
    (pack_id, fence), (step, steps) = pack, progress
    links = session.execute(
        select(ExperimentRun.experiment_id, ExperimentRun.run_id)
        .join(Run, Run.id == ExperimentRun.run_id)
        .where(Run.id.in_(runs), Run.status == RunStatus.RUNNING)
        .order_by(Run.member)
    ).all()
    payload: JsonObject = {
        "pack_id": pack_id,
        "run_ids": list(dict.fromkeys(str(link.run_id) for link in links)),
        "step": step,
        "steps": steps,
        "progress": min(1.0, step / steps) if steps else 0.0,
    }
    for experiment in _locked(session, {link.experiment_id for link in links}):
        event = {
            "experiment_id": experiment.id,
            "pack_id": pack_id,
            "fence": fence,
            "name": EventName.RUN_PROGRESS,
            "payload": payload,
            "created_at": now,
        }
        _append(session, [event])
        _append_experiment_progress(session, now, experiment, counts_of(session, experiment))


def settle_experiment(session: Session, now: datetime, experiment: Experiment) -> None:
    """Derive an experiment's status from the counts of its runs; its row must be held."""
    counts = counts_of(session, experiment)
    if experiment.runs_by_status is None or (
        # An end is told to people and webhooks: once in the life of an experiment its runs are looked at themselves.
        experiment.finished_at is None
        and all(status.is_terminal for status, count in counts.items() if count)
    ):
        counts = recounted(session, experiment.id)
        store_counts(experiment, counts, now)
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


def repair_counts(session: Session, experiment_id: UUID) -> bool:
    """Compare an experiment's counts with its runs and settle it anew where they differ; whether they did.

    Only a process of a version before the counts leaves them wrong. Takes no pack's row: it changes no run.
    """
    now = database_now(session)
    for experiment in _locked(session, {experiment_id}):
        kept, found = counts_of(session, experiment), recounted(session, experiment.id)
        store_counts(experiment, found, now)
        if {status: count for status, count in kept.items() if count} != found:
            settle_experiment(session, now, experiment)
            logger.warning("experiment.counts_repaired id=%s", experiment.id)
            return True
    return False


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


def _append(session: Session, events: list[dict[str, Any]]) -> None:
    """Append events as plain rows: nobody here asks for their ids, and as a session's objects they cost more."""
    session.connection().execute(insert(_EVENTS), events)


def _run_state(experiment_id: UUID, now: datetime, change: RunChange) -> dict[str, Any]:
    run = change.run
    payload: JsonObject = {"run_id": str(run.id), "status": run.status.value, "before": change.before.value}
    if run.error_code is not None:
        payload |= {"code": run.error_code, "message": run.message}
    return {
        "experiment_id": experiment_id,
        "run_id": run.id,
        "pack_id": run.pack_id,
        "fence": change.fence,
        "name": EventName.RUN_STATE,
        "payload": payload,
        "created_at": now,
    }


def _append_experiment_progress(
    session: Session, now: datetime, experiment: Experiment, counts: Counts
) -> None:
    begun = 0.0
    if not experiment.status.is_terminal:
        begun = begun_shares(session, [experiment.id]).get(experiment.id, 0.0)
    payload: JsonObject = {
        "status": experiment.status.value,
        "progress": progress(experiment, counts, begun),
        "runs": {status.value: counts.get(status, 0) for status in RunStatus}
        | {"total": experiment.run_count},
    }
    event = {
        "experiment_id": experiment.id,
        "name": EventName.EXPERIMENT_PROGRESS,
        "payload": payload,
        "created_at": now,
    }
    _append(session, [event])
