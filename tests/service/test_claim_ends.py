"""The ends of claims: reports, findings, crashes, poison, preemptions."""

import pytest

from bfc_core.specs import Outcome, Report
from service.models import (
    AttemptOutcome,
    EventName,
    ExperimentStatus,
    PackStatus,
)
from service.runs import claims, lifecycle
from service.runs.claims import FencedError
from service.runs.moves import Failure
from tests.service.lifecycle_bench import DIED, LEASE, LIMIT, Bench, reports_of
from tests.service.lifecycle_bench import bench as bench


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
        bench.do(claims.record, claim, claims.News(checkpoint=(step, "file", "0" * 64)))
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
