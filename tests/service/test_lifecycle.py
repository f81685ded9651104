"""The lifecycle on real databases, without any process: claims, fences, leases, crashes, cancels, events."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError

from bfc_core.packing import packs_of
from bfc_core.specs import ExperimentSpec, Measurement, Metrics, Outcome, Report
from migrations.upgrade import upgrade
from service import models
from service.database import Database, database_now, open_database
from service.models import (
    Attempt,
    AttemptOutcome,
    Event,
    EventName,
    Experiment,
    ExperimentStatus,
    Pack,
    PackStatus,
    Run,
    RunStatus,
)
from service.runs import claims, lifecycle
from service.runs.claims import Claim, FencedError
from service.runs.moves import Failure
from service.runs.transitions import (
    RUN_TRANSITIONS,
    TransitionNotAllowedError,
    check_run,
    experiment_status,
)

LEASE = timedelta(seconds=2)
LIMIT = 3
DIED = Failure("child_died", "it died")


class Bench:
    """One database and the calls of a worker; every call is one committed transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def accept(self, seeds: int = 3, kinds: tuple[str, ...] = ("joint",), priority: int = 0) -> Experiment:
        spec = ExperimentSpec.model_validate(
            {
                "name": "lifecycle",
                "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
                "learners": [{"kind": kind, "steps_per_stage": 10} for kind in kinds],
                "n": 64,
                "dim": 6,
                "seeds": seeds,
                "budget": {"test_samples": 64},
            }
        )
        runs = spec.runs()
        with self.database.writing() as session:
            experiment, wakeups = lifecycle.accept(
                session,
                spec,
                runs,
                packs_of(runs),
                owner="tester",
                queue="train.cpu",
                republish_first=timedelta(seconds=5),
                priority=priority,
            )
        assert wakeups
        return experiment

    def claim(self, worker: str = "host/0/a", lease: timedelta = LEASE) -> Claim | None:
        with self.database.writing() as session:
            return lifecycle.claim(session, queue="train.cpu", worker_id=worker, device="cpu", lease=lease)

    def claimed(self, worker: str = "host/0/a", lease: timedelta = LEASE) -> Claim:
        claim = self.claim(worker, lease)
        assert claim is not None
        return claim

    def do(self, call: Callable, *arguments: object, **named: object) -> object:
        with self.database.writing() as session:
            return call(session, *arguments, **named)

    def expire(self, claim: Claim) -> None:
        """Let the lease run out without waiting for it."""
        with self.database.writing() as session:
            past = database_now(session) - timedelta(seconds=1)
            session.execute(update(Pack).where(Pack.id == claim.pack_id).values(lease_until=past))

    def pack(self, pack_id: int) -> Pack:
        with self.database.reading() as session:
            return session.get_one(Pack, pack_id)

    def runs(self, experiment: Experiment) -> list[Run]:
        with self.database.reading() as session:
            found = select(Run).where(Run.experiment_id == experiment.id).order_by(Run.seed)
            return list(session.scalars(found))

    def statuses(self, experiment: Experiment) -> list[str]:
        return [run.status.value for run in self.runs(experiment)]

    def experiment(self, experiment: Experiment) -> Experiment:
        with self.database.reading() as session:
            return session.get_one(Experiment, experiment.id)

    def attempts(self, claim: Claim) -> list[AttemptOutcome | None]:
        with self.database.reading() as session:
            query = select(Attempt.outcome).where(Attempt.pack_id == claim.pack_id).order_by(Attempt.fence)
            return list(session.scalars(query))

    def events(self, experiment: Experiment) -> list[Event]:
        with self.database.reading() as session:
            query = select(Event).where(Event.experiment_id == experiment.id).order_by(Event.id)
            return list(session.scalars(query))

    def report_count(self) -> int:
        with self.database.reading() as session:
            return session.execute(text("SELECT count(*) FROM reports")).scalar_one()


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    database = open_database(database_url)
    # The database is the module's; each test begins with an empty queue.
    with database.writing() as session:
        for table in reversed(models.Base.metadata.sorted_tables):
            session.execute(table.delete())
    yield Bench(database)
    database.dispose()


def reports_of(claim: Claim, outcome: Outcome = Outcome.SUCCEEDED) -> dict:
    report = Report(outcome=outcome, metrics=Metrics(nmse=0.1), seconds=1.0, steps=10, message="said")
    return dict.fromkeys(claim.run_ids, report)


def test_a_claim_marks_its_runs_and_its_fence_grows(bench: Bench) -> None:
    experiment = bench.accept()
    first = bench.claimed()
    assert len(first.runs) == 3
    assert [run.spec.seed for run in first.runs] == [0, 1, 2]
    assert bench.statuses(experiment) == ["running"] * 3
    assert bench.experiment(experiment).status is ExperimentStatus.RUNNING
    assert bench.claim() is None
    bench.do(lifecycle.release, first)
    second = bench.claimed()
    assert (first.fence, second.fence) == (1, 2)
    assert [run.attempts for run in bench.runs(experiment)] == [2, 2, 2]


def test_the_most_urgent_pack_is_claimed_first(bench: Bench) -> None:
    bench.accept()
    urgent = bench.accept(priority=5)
    assert bench.claimed().experiment_id == urgent.id


def test_two_workers_never_claim_one_pack(bench: Bench) -> None:
    for _ in range(12):
        bench.accept(seeds=1)
    barrier = threading.Barrier(4)
    claimed: list[int] = []

    def work(name: str) -> None:
        barrier.wait()
        while (claim := bench.claim(name)) is not None:
            claimed.append(claim.pack_id)

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 12
    assert len(set(claimed)) == 12


def test_completing_stores_one_report_a_run(bench: Bench) -> None:
    experiment = bench.accept()
    claim = bench.claimed()
    bench.do(lifecycle.complete, claim, reports_of(claim))
    assert bench.statuses(experiment) == ["succeeded"] * 3
    assert bench.experiment(experiment).status is ExperimentStatus.SUCCEEDED
    assert bench.report_count() == 3
    with pytest.raises(FencedError):
        bench.do(lifecycle.complete, claim, reports_of(claim))
    assert bench.report_count() == 3
    # After a COMMIT whose answer was lost this is how the worker learns that it was done.
    with bench.database.reading() as session:
        assert lifecycle.attempt_outcome(session, claim) is AttemptOutcome.FINISHED


def test_a_report_missing_for_a_run_stores_nothing(bench: Bench) -> None:
    experiment = bench.accept()
    claim = bench.claimed()
    reports = reports_of(claim)
    del reports[claim.run_ids[1]]
    with pytest.raises(KeyError):
        bench.do(lifecycle.complete, claim, reports)
    assert bench.report_count() == 0
    assert bench.statuses(experiment) == ["running"] * 3


def test_divergence_is_an_answer_and_failure_is_none(bench: Bench) -> None:
    experiment = bench.accept()
    claim = bench.claimed()
    reports = reports_of(claim)
    reports[claim.run_ids[0]] = Report(outcome=Outcome.DIVERGED, seconds=1, message="lower the step size")
    reports[claim.run_ids[1]] = Report(outcome=Outcome.FAILED, seconds=1, message="no")
    bench.do(lifecycle.complete, claim, reports)
    assert bench.statuses(experiment) == ["diverged", "failed", "succeeded"]
    assert bench.report_count() == 2
    assert bench.experiment(experiment).status is ExperimentStatus.PARTIALLY_SUCCEEDED


def test_a_late_owner_can_write_nothing(bench: Bench) -> None:
    experiment = bench.accept()
    late = bench.claimed("host/0/late")
    bench.expire(late)
    assert bench.do(lifecycle.reap, LIMIT)
    assert bench.statuses(experiment) == ["queued"] * 3
    owner = bench.claimed("host/1/owner")
    point = Measurement(name="loss", step=1, value=1.0)
    for write in (
        lambda s: claims.heartbeat(s, late, LEASE),
        lambda s: claims.record_progress(s, late, 1, 2),
        lambda s: claims.record_checkpoint(s, late, 1, "file", "0" * 64),
        lambda s: claims.record_measurements(s, late, [(late.run_ids[0], point)]),
        lambda s: claims.cancel_requests(s, late),
        lambda s: lifecycle.complete(s, late, reports_of(late)),
        lambda s: lifecycle.fail(s, late, DIED, is_shared=True),
        lambda s: lifecycle.crash(s, late, DIED, LIMIT),
        lambda s: lifecycle.release(s, late),
        lambda s: lifecycle.settle_cancelled(s, late, late.run_ids),
        lambda s: lifecycle.finish_cancelled(s, late),
    ):
        with pytest.raises(FencedError):
            bench.do(write)
    bench.do(lifecycle.complete, owner, reports_of(owner))
    assert bench.attempts(owner) == [AttemptOutcome.EXPIRED, AttemptOutcome.FINISHED]
    with bench.database.reading() as session:
        assert set(session.scalars(select(models.Report.fence))) == {owner.fence}


def test_a_heartbeat_keeps_a_pack_from_the_reaper(bench: Bench) -> None:
    bench.accept()
    claim = bench.claimed()
    bench.expire(claim)
    bench.do(claims.heartbeat, claim, LEASE)
    assert bench.do(lifecycle.reap, LIMIT) == []
    assert bench.pack(claim.pack_id).status is PackStatus.RUNNING


def test_a_restarted_worker_takes_its_predecessors_packs_at_once(bench: Bench) -> None:
    for _ in range(3):
        bench.accept(seeds=1)
    dead, other, mine = bench.claimed("host/0/dead"), bench.claimed("host/1/x"), bench.claimed("host/0/mine")
    wakeups = bench.do(lifecycle.take_over, "host/0/", LIMIT, mine="host/0/mine")
    assert [wakeup.pack_id for wakeup in wakeups] == [dead.pack_id]
    assert bench.pack(other.pack_id).status is bench.pack(mine.pack_id).status is PackStatus.RUNNING


def test_a_poisonous_pack_is_split_and_only_the_guilty_run_fails(bench: Bench) -> None:
    experiment = bench.accept()
    for _ in range(LIMIT):
        bench.do(lifecycle.crash, bench.claimed(), DIED, LIMIT)
    assert bench.statuses(experiment) == ["queued"] * 3
    guilty = bench.runs(experiment)[1].id
    for _ in range(2 + LIMIT):
        claim = bench.claimed()
        assert len(claim.runs) == 1
        if claim.run_ids == (guilty,):
            bench.do(lifecycle.crash, claim, DIED, LIMIT)
        else:
            bench.do(lifecycle.complete, claim, reports_of(claim))
    assert bench.claim() is None
    assert bench.statuses(experiment) == ["succeeded", "failed", "succeeded"]
    failed = bench.runs(experiment)[1]
    assert failed.error_code == "poison"
    assert "it died" in failed.message
    progress = [
        e.payload["progress"] for e in bench.events(experiment) if e.name is EventName.EXPERIMENT_PROGRESS
    ]
    assert progress[-1] == 1.0


def test_whoever_reaps_counts_to_the_limit_of_the_worker_that_died(bench: Bench) -> None:
    """An API with another BFC_CRASH_LIMIT must not call a pack poison that its workers would try again."""
    experiment = bench.accept(seeds=1)
    for _ in range(2):
        claim = bench.do(
            lifecycle.claim, queue="train.cpu", worker_id="host/0/a", device="cpu", lease=LEASE, crash_limit=3
        )
        bench.expire(claim)
        assert bench.do(lifecycle.reap, 1), "queued again, although the reaper's own limit is 1"
    claim = bench.do(
        lifecycle.claim, queue="train.cpu", worker_id="host/0/a", device="cpu", lease=LEASE, crash_limit=3
    )
    assert bench.do(lifecycle.take_over, "host/0/", 99, mine="host/0/b") == []
    assert set(bench.statuses(experiment)) == {"failed"}
    [run, *_] = bench.runs(experiment)
    assert run.message == "3 crashes without progress; the last: its worker stopped answering"


def test_checkpoint_progress_forgives_crashes(bench: Bench) -> None:
    bench.accept(seeds=1)
    for step in range(1, 3 * LIMIT):
        claim = bench.claimed()
        bench.do(claims.record_checkpoint, claim, step, "file", "0" * 64)
        bench.do(lifecycle.crash, claim, DIED, LIMIT)
    assert bench.pack(claim.pack_id).status is PackStatus.QUEUED
    assert bench.pack(claim.pack_id).crash_count == 1


def test_a_preemption_never_counts(bench: Bench) -> None:
    bench.accept(seeds=1)
    for _ in range(LIMIT + 2):
        claim = bench.claimed()
        bench.do(lifecycle.release, claim)
    assert bench.pack(claim.pack_id).crash_count == 0
    assert bench.attempts(claim) == [AttemptOutcome.RELEASED] * (LIMIT + 2)


def test_a_failure_of_one_run_splits_and_a_shared_one_fails_all(bench: Bench) -> None:
    experiment = bench.accept()
    bench.do(lifecycle.fail, bench.claimed(), Failure("refused", "why"), is_shared=False)
    assert bench.statuses(experiment) == ["queued"] * 3
    bench.do(lifecycle.fail, bench.claimed(), Failure("refused", "why"), is_shared=False)
    assert sorted(bench.statuses(experiment)) == ["failed", "queued", "queued"]
    other = bench.accept(priority=1)
    bench.do(lifecycle.fail, bench.claimed(), Failure("time_limit_exceeded", "why"), is_shared=True)
    assert bench.statuses(other) == ["failed"] * 3
    assert bench.experiment(other).status is ExperimentStatus.FAILED


def test_cancelling_a_queued_experiment_ends_it_at_once(bench: Bench) -> None:
    experiment = bench.accept()
    bench.do(lifecycle.cancel_experiment, experiment.id)
    assert bench.statuses(experiment) == ["cancelled"] * 3
    assert bench.experiment(experiment).status is ExperimentStatus.CANCELLED
    assert bench.claim() is None
    with pytest.raises(lifecycle.ExperimentAlreadyFinishedError):
        bench.do(lifecycle.cancel_experiment, experiment.id)


def test_cancelling_a_running_experiment_asks_its_owner(bench: Bench) -> None:
    experiment = bench.accept()
    claim = bench.claimed()
    bench.do(lifecycle.cancel_experiment, experiment.id)
    bench.do(lifecycle.cancel_experiment, experiment.id)  # twice is as once
    assert bench.statuses(experiment) == ["cancelling"] * 3
    assert bench.experiment(experiment).status is ExperimentStatus.CANCELLING
    with bench.database.reading() as session:
        assert claims.cancel_requests(session, claim) == frozenset(claim.run_ids)
    assert bench.do(lifecycle.finish_cancelled, claim) == []
    assert bench.statuses(experiment) == ["cancelled"] * 3
    assert bench.pack(claim.pack_id).status is PackStatus.CANCELLED
    assert bench.experiment(experiment).status is ExperimentStatus.CANCELLED


def test_a_result_on_its_way_beats_a_cancel(bench: Bench) -> None:
    experiment = bench.accept()
    claim = bench.claimed()
    bench.do(lifecycle.cancel_experiment, experiment.id)
    bench.do(lifecycle.complete, claim, reports_of(claim))
    assert bench.statuses(experiment) == ["succeeded"] * 3
    assert bench.report_count() == 3


def test_one_cancelled_run_leaves_its_mates(bench: Bench) -> None:
    experiment = bench.accept()
    queued, running, _ = bench.runs(experiment)
    bench.do(lifecycle.cancel_run, queued.id)
    claim = bench.claimed()
    assert len(claim.runs) == 2
    bench.do(lifecycle.cancel_run, running.id)
    with bench.database.reading() as session:
        assert claims.cancel_requests(session, claim) == {running.id}
    bench.do(lifecycle.settle_cancelled, claim, [running.id])
    assert bench.statuses(experiment) == ["cancelled", "cancelled", "running"]
    bench.do(lifecycle.complete, claim, reports_of(claim))
    assert bench.statuses(experiment) == ["cancelled", "cancelled", "succeeded"]
    assert bench.report_count() == 1
    with pytest.raises(lifecycle.RunAlreadyFinishedError):
        bench.do(lifecycle.cancel_run, running.id)


def test_a_dead_owners_cancel_is_finished_by_the_reaper(bench: Bench) -> None:
    experiment = bench.accept()
    claim = bench.claimed()
    cancelled = bench.runs(experiment)[0]
    bench.do(lifecycle.cancel_run, cancelled.id)
    bench.expire(claim)
    bench.do(lifecycle.reap, LIMIT)
    assert bench.statuses(experiment) == ["cancelled", "queued", "queued"]
    assert len(bench.claimed().runs) == 2


def test_two_reapers_take_a_pack_once(bench: Bench) -> None:
    bench.accept()
    claim = bench.claimed()
    bench.expire(claim)
    barrier = threading.Barrier(3)
    woken: list[int] = []

    def reap() -> None:
        barrier.wait()
        woken.extend(wakeup.pack_id for wakeup in bench.do(lifecycle.reap, LIMIT))

    threads = [threading.Thread(target=reap) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert woken == [claim.pack_id]
    assert bench.pack(claim.pack_id).crash_count == 1


def test_lost_wakeups_are_repeated_ever_more_rarely(bench: Bench) -> None:
    bench.accept(seeds=1)
    first, cap = timedelta(seconds=5), timedelta(seconds=60)
    gaps = []
    assert bench.do(lifecycle.due_wakeups, "train.cpu", first, cap, 10) == []
    for _ in range(6):
        with bench.database.writing() as session:
            now = database_now(session)
            session.execute(update(Pack).values(publish_at=now))
        assert bench.do(lifecycle.has_due_wakeups)
        [wakeup] = bench.do(lifecycle.due_wakeups, "train.cpu", first, cap, 10)
        gaps.append(round((bench.pack(wakeup.pack_id).publish_at - now).total_seconds()))
    assert gaps == [10, 20, 40, 60, 60, 60]
    assert not bench.do(lifecycle.has_due_wakeups)


def test_a_repeated_measurement_is_kept_once(bench: Bench) -> None:
    bench.accept()
    claim = bench.claimed()
    run = claim.run_ids[0]
    points = [
        (run, Measurement(name="loss", step=1, value=1.5)),
        (run, Measurement(name="loss", step=1, level=2, value=2.5)),
        (run, Measurement(name="loss", step=1, stage="train", value=float("nan"))),
    ]
    bench.do(claims.record_measurements, claim, points)
    bench.do(lifecycle.crash, claim, DIED, LIMIT)
    again = bench.claimed()
    bench.do(claims.record_measurements, again, [*points, (run, Measurement(name="loss", step=2, value=1.0))])
    with bench.database.reading() as session:
        found = session.scalars(select(models.Measurement).order_by(models.Measurement.id)).all()
    assert [(m.step, m.level, m.stage, m.value) for m in found] == [
        (1, None, None, 1.5),
        (1, 2, None, 2.5),
        (1, None, "train", None),
        (2, None, None, 1.0),
    ]


def test_every_change_is_an_event_in_order(bench: Bench) -> None:
    experiment = bench.accept(seeds=1)
    claim = bench.claimed()
    bench.do(claims.record_progress, claim, 5, 10)
    bench.do(lifecycle.complete, claim, reports_of(claim))
    events = bench.events(experiment)
    assert [event.name.value for event in events] == [
        "experiment.progress",
        "run.state",
        "experiment.progress",
        "run.progress",
        "experiment.progress",
        "run.state",
        "experiment.progress",
    ]
    assert [e.payload["status"] for e in events if e.name is EventName.RUN_STATE] == ["running", "succeeded"]
    assert [e.payload["progress"] for e in events if e.name is EventName.EXPERIMENT_PROGRESS] == [
        0,
        0,
        0.5,
        1,
    ]
    assert events[-1].payload["status"] == "succeeded"


def test_events_of_parallel_writers_appear_in_the_order_of_their_ids(bench: Bench) -> None:
    """A reader that continues after the largest id it saw must not miss an earlier one that commits later."""
    experiment = bench.accept(seeds=40)
    packs = [bench.claimed() for _ in range(3)]
    seen: list[int] = []
    done = threading.Event()

    def read() -> None:
        last = 0
        while True:
            is_last = done.is_set()
            with bench.database.reading() as session:
                query = select(Event.id).where(Event.experiment_id == experiment.id, Event.id > last)
                ids = list(session.scalars(query.order_by(Event.id)))
            seen.extend(ids)
            last = max([last, *ids])
            if is_last:
                return
            # A reader that never rests takes the interpreter from the writers, and they meet less often.
            time.sleep(0.002)

    def write(claim: Claim) -> None:
        for step in range(15):
            bench.do(claims.record_progress, claim, step, 15)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(claim,)) for claim in packs]
    reader.start()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    done.set()
    reader.join()
    assert seen == [event.id for event in bench.events(experiment)]
    assert len(seen) >= 90


def test_packs_that_end_together_still_end_their_experiment(bench: Bench) -> None:
    """Each of two transactions could see the other's runs as unfinished and leave the experiment running."""
    experiment = bench.accept(seeds=64)
    packs = []
    while (claim := bench.claim()) is not None:
        packs.append(claim)
    assert len(packs) == 4
    barrier = threading.Barrier(len(packs))

    def complete(claim: Claim) -> None:
        barrier.wait()
        bench.do(lifecycle.complete, claim, reports_of(claim))

    threads = [threading.Thread(target=complete, args=(claim,)) for claim in packs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bench.experiment(experiment).status is ExperimentStatus.SUCCEEDED
    assert bench.experiment(experiment).finished_at is not None


def test_only_the_table_of_transitions_is_allowed() -> None:
    for before, allowed in RUN_TRANSITIONS.items():
        assert before.is_terminal == (not allowed)
        for after in RunStatus:
            if after in allowed:
                check_run(before, after)
            else:
                with pytest.raises(TransitionNotAllowedError):
                    check_run(before, after)


@pytest.mark.parametrize(
    ("counts", "is_cancel_requested", "expected"),
    [
        ({"queued": 2}, False, "queued"),
        ({"queued": 1, "succeeded": 1}, False, "running"),
        ({"running": 1}, True, "cancelling"),
        ({"succeeded": 1, "diverged": 1}, False, "succeeded"),
        ({"succeeded": 1, "cancelled": 1}, True, "cancelled"),
        ({"succeeded": 1, "cancelled": 1}, False, "partially_succeeded"),
        ({"cancelled": 2}, False, "cancelled"),
        ({"failed": 2}, False, "failed"),
        ({"failed": 1, "succeeded": 1}, False, "partially_succeeded"),
        ({"failed": 1, "cancelled": 1}, False, "failed"),
        ({"succeeded": 2}, True, "succeeded"),
    ],
)
def test_an_experiment_is_what_its_runs_make_it(
    counts: dict[str, int],
    is_cancel_requested: bool,  # noqa: FBT001 - a parameter of the table
    expected: str,
) -> None:
    status = experiment_status(
        {RunStatus(name): number for name, number in counts.items()},
        started=False,
        is_cancel_requested=is_cancel_requested,
    )
    assert status == expected


@pytest.mark.servers
def test_who_freezes_in_a_transaction_does_not_hold_a_pack_for_ever(new_postgres: str) -> None:
    # The tables are made without the short limit: a machine that stands still between two of them is no defect.
    upgrade(database := open_database(new_postgres))
    frozen = open_database(new_postgres, idle_timeout=timedelta(seconds=0.5))
    bench = Bench(database)
    experiment = bench.accept()
    claim = bench.claimed()
    bench.expire(claim)
    with frozen.engine.connect() as stopped:
        stopped.execute(text("UPDATE packs SET step = 1"))
        assert bench.do(lifecycle.reap, LIMIT) == []
        deadline = time.monotonic() + 20
        while not bench.do(lifecycle.reap, LIMIT):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with pytest.raises(DBAPIError, match="idle-in-transaction"):
            stopped.execute(text("SELECT 1"))
        stopped.invalidate()
    assert bench.statuses(experiment) == ["queued"] * 3
    for database in (frozen, bench.database):
        database.dispose()
