"""Cancelling what is queued, what runs, what is just ending, and what a dead owner held."""

import pytest

from service.models import (
    ExperimentStatus,
    PackStatus,
)
from service.runs import claims, lifecycle
from tests.service.lifecycle_bench import LIMIT, Bench, reports_of
from tests.service.lifecycle_bench import bench as bench


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
        assert claims.wishes(session, claim).cancelled == frozenset(claim.run_ids)
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
        assert claims.wishes(session, claim).cancelled == {running.id}
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
