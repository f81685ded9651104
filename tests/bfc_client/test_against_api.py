"""The client against the real API. No worker runs: what is accepted stays queued until it is cancelled."""

import threading

import pytest

import bfc_client
from bfc_client.answers import ExperimentStatus
from bfc_client.errors import Conflict, InvalidSpec, NotFound, Unprocessable, WaitTimedOut

SMALL = {
    "name": "small",
    "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
    "learners": [{"kind": "algorithm_1"}, {"kind": "layerwise"}],
    "n": 64,
    "dim": 6,
    "seeds": 2,
    "budget": {"steps_per_stage": 5, "test_samples": 64},
}


@pytest.fixture
def client(api):
    with bfc_client.connect(api) as client:
        yield client


def test_an_experiment_is_created_found_and_cancelled(client):
    experiment = client.experiments.create(**SMALL)
    assert experiment.status is ExperimentStatus.QUEUED
    assert experiment.state.runs.total == 6
    assert client.experiments.get(experiment.id).state.spec["n"] == [64]
    assert {run.label for run in experiment.runs()} == {"algorithm_1", "layerwise", "matched_compute_control"}
    assert experiment.id in {one.id for one in client.experiments.list("queued")}
    experiment.cancel()
    assert experiment.wait(timeout=20).status is ExperimentStatus.CANCELLED
    assert experiment.state.runs.in_words() == "6 cancelled"
    with pytest.raises(Conflict, match="cancelled"):
        experiment.cancel()


def test_one_key_makes_one_experiment(client):
    first = client.experiments.create(SMALL, idempotency_key="one-key")
    again = client.experiments.create(SMALL, idempotency_key="one-key")
    assert again.id == first.id
    with pytest.raises(Unprocessable, match="Idempotency-Key"):
        client.experiments.create(SMALL | {"name": "other"}, idempotency_key="one-key")


def test_a_plan_costs_nothing(client):
    before = len(list(client.experiments.list()))
    plan = client.experiments.plan(**SMALL)
    assert plan.cells == 6
    assert plan.spec["budget"]["steps_per_stage"] == 5
    assert sum(learner.cells for learner in plan.learners) == 6
    assert len(list(client.experiments.list())) == before


def test_the_servers_refusal_carries_the_place(client):
    huge = SMALL | {"learners": [{"kind": "kernel_ridge", "kernel": {"kind": "rbf"}}], "n": 200_000}
    with pytest.raises(Unprocessable) as caught:
        client.experiments.create(huge)
    assert caught.value.errors[0].pointer.startswith("#/learners/0")
    assert caught.value.request_id


def test_lists_are_followed_over_pages(client, monkeypatch):
    monkeypatch.setattr("bfc_client.transport.PAGE_SIZE", 2)
    created = [client.experiments.create(SMALL | {"name": f"page {index}"}).id for index in range(5)]
    listed = [one.id for one in client.experiments.list()]
    assert listed[:5] == created[::-1]
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize("name", ["00000000-0000-4000-8000-000000000000"])
def test_what_is_not_there_is_not_found(client, name):
    with pytest.raises(NotFound):
        client.experiments.get(name)


def test_the_event_stream_ends_with_the_experiment(client):
    experiment = client.experiments.create(SMALL | {"name": "events"})

    def cancel() -> None:
        with bfc_client.connect(client.url) as other:
            other.experiments.get(experiment.id).cancel()

    timer = threading.Timer(0.5, cancel)
    timer.start()
    names = [event.name for event in experiment.events()]
    timer.join()
    assert names[0] == "snapshot"
    assert names[-1] == "end"
    assert names.count("run.state") >= 6


def test_results_charts_and_manifest_exist_before_the_end(client, tmp_path):
    experiment = client.experiments.create(SMALL | {"name": "early"})
    results = experiment.results()
    assert len(results) == 6
    assert {row["status"] for row in results} == {"queued"}
    assert experiment.chart("comparison").save(tmp_path / "c.svg").read_text().startswith("<svg")
    assert experiment.manifest()["spec_hash"] == experiment.state.spec_hash
    assert experiment.comparison().experiment_id == experiment.id


def test_the_catalogue_names_every_learner_and_target(client):
    assert {"algorithm_1", "kernel_ridge"} <= {entry.kind for entry in client.learners()}
    assert "hierarchical_quadratic" in {entry.kind for entry in client.targets()}


def test_readiness_says_that_no_worker_is_there(client):
    is_ready, facts = client.readiness()
    assert not is_ready
    assert facts["checks"]["database"]["ok"]
    assert not facts["checks"]["workers"]["ok"]


def test_curves_and_complexity_are_asked_with_their_parameters(client):
    experiment = client.experiments.create(SMALL | {"name": "complexity"})
    found = experiment.complexity(eps=0.05, delta=0.3)
    assert (found.eps, found.delta, found.metric) == (0.05, 0.3, "nmse")
    assert found.cells == ()
    assert [curve.unfinished for curve in experiment.curves("error")] == [2, 2, 2]
    with pytest.raises(Unprocessable):
        experiment.complexity(eps=-1)


def test_a_preset_is_started_and_its_verdict_read(client):
    assert "eight-steps" in {entry.name for entry in client.reproductions()}
    started = client.reproduce("eight-steps")
    (experiment,) = started.experiments.values()
    assert started.verdict().verdict == "unfinished"
    experiment.cancel()
    verdict = started.wait(timeout=20).verdict()
    assert verdict.verdict == "failed"
    assert not any(finding.holds for finding in verdict.findings)
    with pytest.raises(NotFound, match="there are bfc-algorithm-1"):
        client.reproduce("nope")


def test_a_complexity_search_is_started_read_and_cancelled(client):
    search = client.search_complexity(
        name="n*", target=SMALL["target"], learners=[{"kind": "joint"}], dim=6, n_min=32, n_max=128, seeds=2
    )
    assert (search.state.rounds, search.state.runs, search.state.full_grid_runs) == (1, 1, 6)
    assert client.complexity_search(search.id).state.status == "running"
    with pytest.raises(WaitTimedOut):
        search.wait(timeout=0)
    assert search.cancel().wait().state.status == "cancelled"
    with pytest.raises(InvalidSpec) as caught:
        client.search_complexity(name="n*", target=SMALL["target"], learners=[], dim=6)
    assert caught.value.errors[0].pointer == "#/learners"
