"""The one place that changes the status of runs and packs.

The database is the truth and a broker message only a wake-up: a pack is accepted by being committed, owned by
being claimed (fence + 1, a lease), and ended by one guarded transaction. Callers commit, by leaving
``Database.writing``. Lock order everywhere: packs by id, then experiments by id.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, ScalarSelect, select, update
from sqlalchemy.orm import Session

from bfc_core.packing import estimate_pack
from bfc_core.specs import Outcome, Report, RunSpec
from service import models
from service.database import database_now
from service.models import (
    Attempt,
    AttemptOutcome,
    Pack,
    PackStatus,
    Run,
    RunStatus,
)
from service.models.pack import is_waiting
from service.runs.acceptance import accept
from service.runs.cancellation import (
    ExperimentAlreadyFinishedError,
    RunAlreadyFinishedError,
    cancel_experiment,
    cancel_run,
)
from service.runs.claims import Claim, ClaimedRun, held_pack
from service.runs.moves import Failure, Wakeup, end_pack, live_runs, move_runs
from service.runs.tallies import tally_expired, tally_reports, tally_wait
from service.runs.transitions import check_pack

__all__ = [
    "POISON",
    "Claim",
    "ClaimedRun",
    "ExperimentAlreadyFinishedError",
    "Failure",
    "RunAlreadyFinishedError",
    "Wakeup",
    "accept",
    "attempt_outcome",
    "cancel_experiment",
    "cancel_run",
    "claim",
    "complete",
    "crash",
    "due_queues",
    "due_wakeups",
    "fail",
    "finish_cancelled",
    "has_due_wakeups",
    "reap",
    "release",
    "settle_cancelled",
    "take_over",
]

POISON = "poison"
MAX_ERROR_TEXT = 20_000


def claim(
    session: Session,
    *,
    queue: str,
    worker_id: str,
    device: str,
    lease: timedelta,
    crash_limit: int | None = None,
) -> Claim | None:
    """Take the most urgent pack that may run; None where there is none.

    Args:
        crash_limit: the worker's own, which holds for this attempt whoever finds it dead; None: the finder's.
    """
    now = database_now(session)
    eligible = (
        select(Pack.id)
        .where(is_waiting(), Pack.queue == queue, Pack.run_after <= now)
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
        runs=tuple(ClaimedRun(run.id, RunSpec.model_validate(run.spec)) for run in runs),
    )


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
            run.message = report.message
            run.error_code = "run_failed" if report.outcome is Outcome.FAILED else None
    session.execute(
        update(models.Artifact)
        .where(models.Artifact.run_id.in_([run.id for run, _ in moves]), models.Artifact.fence == claim.fence)
        .values(published_at=now)
    )
    pack.step = pack.steps = max(pack.step, pack.steps, 1)
    tally_reports(session, stored)
    _end_attempt(session, pack, now, AttemptOutcome.FINISHED).peak_memory_bytes = peak_memory_bytes
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
    _end_attempt(session, pack, now, AttemptOutcome.FAILED, failure)
    runs = live_runs(session, pack)
    if len(runs) > 1 and not is_shared:
        return _split(session, now, pack, runs)
    _fail_pack(session, now, pack, failure)
    return []


def crash(session: Session, claim: Claim, failure: Failure, crash_limit: int) -> list[Wakeup]:
    """End a claim whose process died; the pack is tried again until it has crashed too often.

    Raises:
        FencedError: the claim is over; nothing was written.
    """
    now = database_now(session)
    return _crashed(
        session, now, held_pack(session, claim, now), AttemptOutcome.CRASHED, failure, crash_limit
    )


def release(session: Session, claim: Claim) -> list[Wakeup]:
    """Give a claim back unfinished (a preemption); it never counts against the pack.

    Raises:
        FencedError: the claim is over; nothing was written.
    """
    now = database_now(session)
    pack = held_pack(session, claim, now)
    _end_attempt(session, pack, now, AttemptOutcome.RELEASED)
    return _requeue(session, now, pack)


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
    _end_attempt(session, pack, now, AttemptOutcome.CANCELLED)
    return _requeue(session, now, pack)


def attempt_outcome(session: Session, claim: Claim) -> AttemptOutcome | None:
    """How the attempt of a claim ended: tells after a connection lost at COMMIT whether it was done."""
    return session.scalar(
        select(Attempt.outcome).where(Attempt.pack_id == claim.pack_id, Attempt.fence == claim.fence)
    )


def reap(session: Session, crash_limit: int, limit: int = 50) -> list[Wakeup]:
    """Take back packs whose lease ran out. What was to be cancelled is cancelled, the rest queued again.

    Args:
        crash_limit: for packs whose worker did not say its own.
        limit: packs a call.
    """
    now = database_now(session)
    expired = session.scalars(
        select(Pack)
        .where(Pack.status == PackStatus.RUNNING, Pack.lease_until < now)
        .order_by(Pack.id)
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
        .execution_options(populate_existing=True)
    ).all()
    return _expire(session, now, expired, "lease_expired", crash_limit)


def take_over(session: Session, predecessor: str, crash_limit: int, *, mine: str) -> list[Wakeup]:
    """Take back the packs of workers whose id begins with ``predecessor``; the caller knows they are dead.

    Args:
        predecessor: what the ids of the dead begin with.
        crash_limit: for packs whose worker did not say its own.
        mine: the caller's own worker id, whose packs it keeps.
    """
    now = database_now(session)
    orphaned = session.scalars(
        select(Pack)
        .where(
            Pack.status == PackStatus.RUNNING,
            Pack.worker_id.startswith(predecessor, autoescape=True),
            Pack.worker_id != mine,
        )
        .order_by(Pack.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).all()
    return _expire(session, now, orphaned, "worker_died", crash_limit)


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


def _queue_after(queue: ColumnElement[str] | None) -> ScalarSelect[str]:
    """The first queue by name, behind ``queue``, in which a pack waits; NULL where there is none."""
    first = select(Pack.queue).where(is_waiting()).order_by(Pack.queue).limit(1)
    return (first if queue is None else first.where(Pack.queue > queue)).scalar_subquery()


def _expire(
    session: Session, now: datetime, packs: Iterable[Pack], code: str, crash_limit: int
) -> list[Wakeup]:
    wakeups: list[Wakeup] = []
    for pack in packs:
        failure = Failure(code, "its worker stopped answering")
        wakeups += _crashed(
            session, now, pack, AttemptOutcome.EXPIRED, failure, pack.crash_limit or crash_limit
        )
    return wakeups


def _crashed(
    session: Session, now: datetime, pack: Pack, outcome: AttemptOutcome, failure: Failure, crash_limit: int
) -> list[Wakeup]:
    _end_attempt(session, pack, now, outcome, failure)
    has_moved = pack.checkpoint_step > pack.crash_step
    pack.crash_count = 1 if has_moved else pack.crash_count + 1
    pack.crash_step = pack.checkpoint_step
    if pack.crash_count < crash_limit:
        return _requeue(session, now, pack)
    runs = live_runs(session, pack)
    if len(runs) > 1:
        return _split(session, now, pack, runs)
    _fail_pack(
        session,
        now,
        pack,
        Failure(POISON, f"{pack.crash_count} crashes without progress; the last: {failure.text}"),
    )
    return []


def _requeue(session: Session, now: datetime, pack: Pack) -> list[Wakeup]:
    """Back to the queue with what still wants to run; the pack ends where nothing does."""
    moves = [
        (run, RunStatus.CANCELLED if run.status is RunStatus.CANCELLING else RunStatus.QUEUED)
        for run in live_runs(session, pack)
    ]
    if all(after is RunStatus.CANCELLED for _, after in moves):
        end_pack(pack, now, PackStatus.CANCELLED)
        move_runs(session, now, pack, moves)
        return []
    check_pack(pack.status, PackStatus.QUEUED)
    pack.status = PackStatus.QUEUED
    pack.lease_until = pack.worker_id = pack.cancel_requested_at = None
    pack.run_after = pack.publish_at = now
    pack.publish_count = 0
    move_runs(session, now, pack, moves)
    return [Wakeup(pack.id, pack.queue, pack.priority)]


def _split(session: Session, now: datetime, pack: Pack, runs: Sequence[Run]) -> list[Wakeup]:
    """Give every live run a pack of its own, so that one poisonous run does not take its mates along."""
    end_pack(pack, now, PackStatus.SPLIT)
    moves: list[tuple[Run, RunStatus]] = []
    wakeups: list[Wakeup] = []
    for run in runs:
        if run.status is RunStatus.CANCELLING:
            moves.append((run, RunStatus.CANCELLED))
            continue
        estimate = estimate_pack([RunSpec.model_validate(run.spec)])
        single = Pack(
            experiment_id=pack.experiment_id,
            queue=pack.queue,
            priority=pack.priority,
            status=PackStatus.QUEUED,
            members=1,
            estimated_seconds=estimate.seconds,
            estimated_memory_bytes=estimate.memory_bytes,
            held_at=pack.held_at,
            run_after=now,
            publish_at=now,
            created_at=now,
        )
        session.add(single)
        session.flush()
        run.pack_id, run.member = single.id, 0
        moves.append((run, RunStatus.QUEUED))
        wakeups.append(Wakeup(single.id, single.queue, single.priority))
    pack.members -= len(wakeups)
    move_runs(session, now, pack, moves)
    return wakeups


def _fail_pack(session: Session, now: datetime, pack: Pack, failure: Failure) -> None:
    moves: list[tuple[Run, RunStatus]] = []
    for run in live_runs(session, pack):
        if run.status is RunStatus.CANCELLING:
            moves.append((run, RunStatus.CANCELLED))
            continue
        run.error_code, run.message = failure.code, failure.text[-MAX_ERROR_TEXT:]
        moves.append((run, RunStatus.FAILED))
    pack.error_code, pack.error_text = failure.code, failure.text[-MAX_ERROR_TEXT:]
    end_pack(pack, now, PackStatus.FAILED)
    move_runs(session, now, pack, moves)


def _end_attempt(
    session: Session, pack: Pack, now: datetime, outcome: AttemptOutcome, failure: Failure | None = None
) -> Attempt:
    attempt = session.get_one(Attempt, (pack.id, pack.fence))
    attempt.outcome = outcome
    attempt.step = pack.step
    attempt.finished_at = now
    if outcome is AttemptOutcome.EXPIRED:
        tally_expired(session)
    if failure is not None:
        text = f"{failure.text}\n{failure.log}" if failure.log else failure.text
        attempt.error_code, attempt.error_text = failure.code, text[-MAX_ERROR_TEXT:]
    return attempt


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
        message=report.message,
        created_at=now,
    )
