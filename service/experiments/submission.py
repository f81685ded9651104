"""Accepting an experiment once, however often the request arrives."""

import hashlib
import os
import signal
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from bfc_core.specs import ExperimentSpec
from service.api_keys.quotas import check_quotas
from service.auth import Principal
from service.config import CrashPoint, Settings
from service.database import LOCK_NOT_AVAILABLE, Database, database_now, sql_state
from service.errors import IdempotencyKeyInFlightError, IdempotencyKeyReusedError, QuotaExceededError
from service.experiments.calibration import calibrations
from service.experiments.data_sets import check_data_set
from service.experiments.planning import ExperimentPlan, answered, cells_of, plan
from service.experiments.repository import read_experiment
from service.jobs import Publisher
from service.models import Experiment, IdempotencyKey
from service.runs.acceptance import accept
from service.runs.moves import Wakeup
from service.runs.reuse import answered_cells

IN_FLIGHT_SECONDS = 2
"""How long a request waits for another with the same key before it answers 409."""


@dataclass(frozen=True)
class Submission:
    """The answer to a submission, and whether it was given before."""

    answer: dict[str, Any]
    replayed: bool


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
        settings.kernel_memory_limit_bytes,
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
    body_hash = hashlib.sha256(f"{spec.canonical_json()}|{force=}".encode()).hexdigest()
    if key is not None and (known := _known(database, principal.owner, key, body_hash)) is not None:
        return known
    with database.reading() as session:
        found = planned(session, spec, settings, force=force)
    try:
        with database.writing() as session:
            check_quotas(
                session,
                principal,
                runs=len(found.cells) - found.reused_cells,
                seconds=found.estimated_seconds,
            )
            experiment, wakeups = accept_planned(session, found, principal.owner, settings, priority)
            answer = read_experiment(session, experiment.id).model_dump(mode="json")
            if key is not None:
                _remember(session, principal.owner, key, body_hash, answer)
            _crash_at("before_accept", settings)
    except QuotaExceededError:
        # What fills the quota may be the same request, which was faster.
        if key is None or (known := _known(database, principal.owner, key, body_hash)) is None:
            raise
        return known
    except OperationalError as error:
        if sql_state(error) == LOCK_NOT_AVAILABLE:
            raise IdempotencyKeyInFlightError from error
        raise
    except IntegrityError:
        # Another request with the same key was faster; its answer stands.
        if key is None or (known := _known(database, principal.owner, key, body_hash)) is None:
            raise
        return known
    _crash_at("after_accept", settings)
    publisher.publish(wakeups)
    _crash_at("after_publish", settings)
    return Submission(answer, replayed=False)


def _crash_at(point: CrashPoint, settings: Settings) -> None:
    if settings.crash_point == point:
        os.kill(os.getpid(), signal.SIGKILL)


def _known(database: Database, owner: str, key: str, body_hash: str) -> Submission | None:
    with database.reading() as session:
        row = session.get(IdempotencyKey, (owner, key))
        if row is None:
            return None
        if row.body_hash != body_hash:
            raise IdempotencyKeyReusedError
        return Submission(row.answer, replayed=True)


def _remember(session: Session, owner: str, key: str, body_hash: str, answer: dict[str, Any]) -> None:
    if session.get_bind().dialect.name == "postgresql":
        # The other transaction with this key may have stopped half-way; nobody shall wait for it for long.
        session.execute(text(f"SET LOCAL lock_timeout = '{IN_FLIGHT_SECONDS}s'"))
    session.add(
        IdempotencyKey(
            owner=owner,
            key=key,
            body_hash=body_hash,
            experiment_id=UUID(answer["id"]),
            status_code=202,
            answer=answer,
            created_at=database_now(session),
        )
    )
    session.flush()
