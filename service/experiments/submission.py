"""Accepting an experiment once, however often the request arrives."""

import os
import signal

from sqlalchemy.orm import Session

from bfc_core.specs import ExperimentSpec
from service.api_keys.quotas import check_quotas
from service.auth import Principal
from service.config import CrashPoint, Settings
from service.database import Database
from service.experiments.calibration import calibrations
from service.experiments.data_sets import check_data_set
from service.experiments.planning import ExperimentPlan, answered, cells_of, plan
from service.experiments.repository import read_experiment
from service.idempotency import KeyedRequest, Submission
from service.jobs import Publisher
from service.models import Experiment
from service.models.base import JsonObject
from service.runs.acceptance import accept
from service.runs.moves import Wakeup
from service.runs.reuse import answered_cells


def planned(
    session: Session, spec: ExperimentSpec, settings: Settings, *, force: bool = False
) -> ExperimentPlan:
    """Plan an experiment against what has been answered before; with ``force`` every cell is computed anew.

    Seconds are corrected by what finished runs of the same learners took here.

    Raises:
        PlanRefusedError: the experiment does not fit the deployment.
    """
    check_data_set(spec.target, settings.data_sets_folder)
    cells = cells_of(spec)
    if not force:
        cells = answered(cells, answered_cells(session, [cell.hash for cell in cells]))
    kinds = {cell.spec.learner.kind for cell in cells if cell.answer is None}
    return plan(
        spec,
        cells,
        settings.pack_memory_limit_bytes,
        calibrations(session, kinds),
        settings.pack_members,
        settings.network_pack_bytes,
    )


def accept_planned(
    session: Session, found: ExperimentPlan, owner: str, settings: Settings, priority: int = 0
) -> tuple[Experiment, list[Wakeup]]:
    """Store a planned experiment; the wake-ups are to be sent after the commit."""
    return accept(
        session,
        found.spec,
        [cell.spec for cell in found.cells],
        found.packs,
        estimates=found.estimates,
        hashes=[cell.hash for cell in found.cells],
        answers=[cell.answer.run_id if cell.answer else None for cell in found.cells],
        owner=owner,
        queue=settings.queue,
        network_queue=settings.network_queue,
        republish_first=settings.republish_first,
        priority=priority,
    )


def submit(
    spec: ExperimentSpec,
    key: str | None,
    principal: Principal,
    database: Database,
    publisher: Publisher,
    settings: Settings,
    *,
    priority: int = 0,
    force: bool = False,
) -> Submission:
    """Plan, store, commit, then send the wake-ups; under a known key answer what was answered.

    Raises:
        PlanRefusedError: the experiment does not fit the deployment; nothing was stored.
        IdempotencyKeyReusedError: the key belongs to another body.
        IdempotencyKeyInFlightError: the first request with this key takes its time.
        QuotaExceededError: it would be more than the API key allows; nothing was stored.
    """
    request = KeyedRequest(principal.owner, key, f"{spec.canonical_json()}|{force=}")
    wakeups: list[Wakeup] = []

    def store() -> JsonObject:
        with database.reading() as session:
            found = planned(session, spec, settings, force=force)
        with database.writing() as session:
            check_quotas(
                session,
                principal,
                runs=len(found.cells) - found.reused_cells,
                seconds=found.estimated_seconds,
            )
            experiment, to_send = accept_planned(session, found, principal.owner, settings, priority)
            answer = read_experiment(session, experiment.id).model_dump(mode="json")
            request.remember(session, answer, experiment.id)
            _crash_at("before_accept", settings)
        wakeups.extend(to_send)
        return answer

    submission = request.once(database, store)
    if not submission.replayed:
        _crash_at("after_accept", settings)
        publisher.publish(wakeups)
        _crash_at("after_publish", settings)
    return submission


def _crash_at(point: CrashPoint, settings: Settings) -> None:
    if settings.crash_point == point:
        os.kill(os.getpid(), signal.SIGKILL)
