"""What becomes of a held pack when an attempt at it has ended: queued again, split into its runs, or failed.

For ``lifecycle``'s parts only.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from bfc_core.packing import estimate_pack
from bfc_core.specs import RunSpec
from service.models import Attempt, AttemptOutcome, Pack, PackStatus, Run, RunStatus
from service.runs.moves import Failure, Wakeup, end_pack, live_runs, move_runs
from service.runs.tallies import tally_expired
from service.runs.transitions import check_pack

POISON = "poison"
MAX_ERROR_TEXT = 20_000


def crashed(
    session: Session, now: datetime, pack: Pack, outcome: AttemptOutcome, failure: Failure, crash_limit: int
) -> list[Wakeup]:
    """Count a crash; at the limit without progress a pack of several runs is split, and a single run is poison."""
    end_attempt(session, pack, now, outcome, failure)
    has_moved = pack.checkpoint_step > pack.crash_step
    pack.crash_count = 1 if has_moved else pack.crash_count + 1
    pack.crash_step = pack.checkpoint_step
    if pack.crash_count < crash_limit:
        return requeue(session, now, pack)
    runs = live_runs(session, pack)
    if len(runs) > 1:
        return split(session, now, pack, runs)
    fail_pack(
        session,
        now,
        pack,
        Failure(POISON, f"{pack.crash_count} crashes without progress; the last: {failure.text}"),
    )
    return []


def requeue(session: Session, now: datetime, pack: Pack) -> list[Wakeup]:
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
    pack.claimed_ahead = False
    pack.run_after = pack.publish_at = now
    pack.publish_count = 0
    move_runs(session, now, pack, moves)
    return [Wakeup(pack.id, pack.queue, pack.priority)]


def split(session: Session, now: datetime, pack: Pack, runs: Sequence[Run]) -> list[Wakeup]:
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


def fail_pack(session: Session, now: datetime, pack: Pack, failure: Failure) -> None:
    """Fail every run that was not to be cancelled anyway."""
    moves: list[tuple[Run, RunStatus]] = []
    for run in live_runs(session, pack):
        if run.status is RunStatus.CANCELLING:
            moves.append((run, RunStatus.CANCELLED))
            continue
        run.error_code, run.message = failure.code, storable(failure.text)
        moves.append((run, RunStatus.FAILED))
    pack.error_code, pack.error_text = failure.code, storable(failure.text)
    end_pack(pack, now, PackStatus.FAILED)
    move_runs(session, now, pack, moves)


def end_attempt(
    session: Session, pack: Pack, now: datetime, outcome: AttemptOutcome, failure: Failure | None = None
) -> Attempt:
    """Write the outcome into the row of the present attempt, which is answered."""
    attempt = session.get_one(Attempt, (pack.id, pack.fence))
    attempt.outcome = outcome
    attempt.step = pack.step
    attempt.finished_at = now
    if outcome is AttemptOutcome.EXPIRED:
        tally_expired(session)
    if failure is not None:
        text = f"{failure.text}\n{failure.log}" if failure.log else failure.text
        attempt.error_code, attempt.error_text = failure.code, storable(text)
    return attempt


def storable(text: str) -> str:
    """The end of a text that a process wrote, which may hold anything; PostgreSQL stores no NUL."""
    return text[-MAX_ERROR_TEXT:].replace("\0", "\N{REPLACEMENT CHARACTER}")
