"""The ends of a claim that its owner asks for: each is one transaction under the fence."""

from collections.abc import Collection, Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from bfc_core.specs import Outcome, Report
from service import models
from service.database import database_now
from service.models import Attempt, AttemptOutcome, Pack, PackStatus, Run, RunStatus
from service.runs.aftermath import crashed, end_attempt, fail_pack, requeue, split, storable
from service.runs.cell import cell_hash, code_version
from service.runs.claims import Claim, held_pack
from service.runs.moves import Failure, Wakeup, end_pack, live_runs, move_runs
from service.runs.tallies import tally_reports


def complete(
    session: Session, claim: Claim, reports: Mapping[UUID, Report], peak_memory_bytes: int | None = None
) -> None:
    """End a claim with the reports of its runs; runs that ended before keep what they have.

    ``peak_memory_bytes`` is what the attempt's process measured, for all runs together.

    Raises:
        FencedError: the claim is over; nothing was written.
        KeyError: a live run has no report; nothing was written.
    """
    now = database_now(session)
    pack = held_pack(session, claim, now)
    moves: list[tuple[Run, RunStatus]] = []
    stored: list[tuple[str, Report]] = []
    for run in live_runs(session, pack):
        report = reports[run.id]
        moves.append((run, RunStatus(report.outcome.value)))
        if report.outcome in {Outcome.SUCCEEDED, Outcome.DIVERGED}:
            session.add(_stored(run.id, claim.fence, report, now))
            stored.append((run.learner_kind, report))
        else:
            run.message = None if report.message is None else storable(report.message)
            run.error_code = "run_failed" if report.outcome is Outcome.FAILED else None
    _name_the_code(session, pack, claim)
    session.execute(
        update(models.Artifact)
        .where(models.Artifact.run_id.in_([run.id for run, _ in moves]), models.Artifact.fence == claim.fence)
        .values(published_at=now)
    )
    pack.step = pack.steps = max(pack.step, pack.steps, 1)
    tally_reports(session, stored)
    end_attempt(session, pack, now, AttemptOutcome.FINISHED).peak_memory_bytes = peak_memory_bytes
    end_pack(pack, now, PackStatus.FINISHED)
    move_runs(session, now, pack, moves)


def fail(session: Session, claim: Claim, failure: Failure, *, is_shared: bool) -> list[Wakeup]:
    """End a claim that would fail again however often it is tried.

    Args:
        is_shared: the failure is of the whole pack, its runs fail together; otherwise a pack of several runs
            is split, so that only the guilty one fails.

    Raises:
        FencedError: the claim is over; nothing was written.
    """
    now = database_now(session)
    pack = held_pack(session, claim, now)
    end_attempt(session, pack, now, AttemptOutcome.FAILED, failure)
    runs = live_runs(session, pack)
    if len(runs) > 1 and not is_shared:
        return split(session, now, pack, runs)
    fail_pack(session, now, pack, failure)
    return []


def crash(session: Session, claim: Claim, failure: Failure, crash_limit: int) -> list[Wakeup]:
    """End a claim whose process died; the pack is tried again until it has crashed too often.

    Raises:
        FencedError: the claim is over; nothing was written.
    """
    now = database_now(session)
    return crashed(session, now, held_pack(session, claim, now), AttemptOutcome.CRASHED, failure, crash_limit)


def release(session: Session, claim: Claim) -> list[Wakeup]:
    """Give a claim back unfinished (a preemption); it never counts against the pack.

    Raises:
        FencedError: the claim is over; nothing was written.
    """
    now = database_now(session)
    pack = held_pack(session, claim, now)
    end_attempt(session, pack, now, AttemptOutcome.RELEASED)
    return requeue(session, now, pack)


def settle_cancelled(session: Session, claim: Claim, run_ids: Collection[UUID]) -> None:
    """Some runs of a running pack have stopped; its other runs go on.

    Raises:
        FencedError: the claim is over; nothing was written.
    """
    now = database_now(session)
    pack = held_pack(session, claim, now)
    stopped = [
        run for run in live_runs(session, pack) if run.id in run_ids and run.status is RunStatus.CANCELLING
    ]
    move_runs(session, now, pack, [(run, RunStatus.CANCELLED) for run in stopped])


def finish_cancelled(session: Session, claim: Claim) -> list[Wakeup]:
    """The whole pack was stopped because its runs shall be cancelled; a run that shall not is queued again.

    Raises:
        FencedError: the claim is over; nothing was written.
    """
    now = database_now(session)
    pack = held_pack(session, claim, now)
    end_attempt(session, pack, now, AttemptOutcome.CANCELLED)
    return requeue(session, now, pack)


def attempt_outcome(session: Session, claim: Claim) -> AttemptOutcome | None:
    """How the attempt of a claim ended: tells after a connection lost at COMMIT whether it was done."""
    return session.scalar(
        select(Attempt.outcome).where(Attempt.pack_id == claim.pack_id, Attempt.fence == claim.fence)
    )


def _name_the_code(session: Session, pack: Pack, claim: Claim) -> None:
    """What was accepted by one version and computed by another answers cells of the one that computed it.

    While an upgrade is under way a new API accepts what old workers compute; under the accepted hash the old code's
    numbers would be served for the new code's for ever.
    """
    accepted_by = select(models.Experiment.code_version).where(models.Experiment.id == pack.experiment_id)
    if session.scalar(accepted_by) == code_version():
        return
    for claimed in claim.runs:
        run = session.get_one(Run, claimed.id)
        if run.pack_id == pack.id:
            run.cell_hash = cell_hash(claimed.spec)


def _stored(run_id: UUID, fence: int, report: Report, now: datetime) -> models.Report:
    return models.Report(
        run_id=run_id,
        fence=fence,
        outcome=report.outcome,
        nmse=report.metrics.nmse if report.metrics else None,
        seconds=report.seconds,
        solve_seconds=report.solve_seconds,
        steps=report.steps,
        flops=report.flops,
        metrics=report.metrics.model_dump(mode="json") if report.metrics else None,
        selection=dict(report.selection),
        warnings=list(report.warnings),
        message=None if report.message is None else storable(report.message),
        created_at=now,
    )
