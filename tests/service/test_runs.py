"""Runs, their reports and measurements."""

from uuid import UUID

from bfc_core.specs import Measurement, Metrics, Outcome, Report
from service import models
from tests.service.conftest import Api, report


def runs_of(api: Api, experiment: dict, **params: object) -> list[dict]:
    return api.get(experiment["links"]["runs"], params=params).json()["items"]


def test_a_finished_run_carries_its_report(api: Api, finished: dict):
    assert finished["status"] == "succeeded"
    assert finished["progress"] == 1
    for run in runs_of(api, finished):
        assert run["status"] == "succeeded"
        assert run["experiment_id"] == finished["id"]
        assert run["metrics"]["nmse"] > 0
        assert (run["seconds"], run["steps"], run["selection"]) == (1.5, 40, {"ridge": 1e-3})
        assert run["progress"] == 1
        assert run["attempts"] == 1
        assert api.get(f"/v1/runs/{run['id']}").json() == run


def test_runs_are_listed_in_the_order_of_the_grid_page_by_page(api: Api):
    experiment = api.submitted(n=[32, 64])
    cursor, found = None, []
    while True:
        page = api.get(
            experiment["links"]["runs"], params={"limit": 3} | ({"cursor": cursor} if cursor else {})
        ).json()
        found += [(run["learner"]["kind"], run["n"], run["seed"]) for run in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    learners = ["algorithm_1", "layerwise", "matched_compute_control", "kernel_ridge"]
    assert found == [(kind, n, seed) for kind in learners for n in (32, 64) for seed in (0, 1)]


def test_runs_are_filtered_by_status(api: Api):
    experiment = api.submitted()
    (first, *_) = runs_of(api, experiment)
    assert api.client.post(f"/v1/runs/{first['id']}/cancel").json()["status"] == "cancelled"
    assert [run["id"] for run in runs_of(api, experiment, status="cancelled")] == [first["id"]]
    assert len(runs_of(api, experiment, status="queued")) == 7
    again = api.client.post(f"/v1/runs/{first['id']}/cancel")
    assert (again.status_code, again.json()["current"]) == (409, "cancelled")


def test_divergence_is_a_finding_and_null_in_json(api: Api):
    experiment = api.submitted()

    def diverged(spec):
        if spec.learner.kind == "algorithm_1":
            return Report(
                outcome=Outcome.DIVERGED,
                metrics=Metrics(nmse=float("inf")),
                seconds=1,
                message="halve step_size",
            )
        return report(spec)

    api.finish_all(diverged)
    answer = api.get(experiment["links"]["runs"])
    assert "Infinity" not in answer.text
    run = answer.json()["items"][0]
    assert (run["status"], run["metrics"]["nmse"], run["message"]) == ("diverged", None, "halve step_size")
    state = api.get(f"/v1/experiments/{experiment['id']}").json()
    assert (state["status"], state["runs"]["diverged"]) == ("succeeded", 2)


def test_measurements_are_paged_and_filtered(api: Api):
    experiment = api.submitted()
    run = runs_of(api, experiment)[0]
    with api.database.writing() as session:
        for step in range(7):
            for name in ("loss", "feature_error"):
                point = Measurement(name=name, step=step, level=2, stage="one", value=1 / (step + 1))
                session.add(models.Measurement(run_id=UUID(run["id"]), fence=1, **point.model_dump()))
    path = f"/v1/runs/{run['id']}/measurements"
    first = api.get(path, params={"name": "loss", "limit": 5}).json()
    rest = api.get(path, params={"name": "loss", "limit": 5, "cursor": first["next_cursor"]}).json()
    assert [item["step"] for item in first["items"] + rest["items"]] == list(range(7))
    assert rest["next_cursor"] is None
    assert {item["name"] for item in first["items"]} == {"loss"}
