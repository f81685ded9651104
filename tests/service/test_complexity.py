"""Curves and n*(eps, delta) over HTTP: numbers, censoring, refusals."""

import pytest

from bfc_core.specs import Metrics, Outcome, Report, RunSpec
from tests.service.conftest import Api

KERNEL = {"kind": "kernel_ridge", "kernel": {"kind": "polynomial", "degree": 4}}


def learned(run: RunSpec) -> Report:
    """joint needs 10 dim samples, the kernel dim³; errors fall as 1 / n."""
    star = 10 * run.dim if run.learner.kind == "joint" else run.dim**3
    if run.learner.kind == "joint" and run.seed == 3 and run.n == 50:
        return Report(outcome=Outcome.DIVERGED, metrics=Metrics(nmse=float("nan")), seconds=1)
    return Report(outcome=Outcome.SUCCEEDED, metrics=Metrics(nmse=0.1 * star / run.n), seconds=1)


def test_n_star_is_answered_with_intervals_exponents_and_censoring(api: Api):
    experiment = api.submitted(
        learners=[{"kind": "joint"}, KERNEL], n=[50, 100, 200, 400, 800], dim=[6, 8, 10, 13], seeds=4
    )
    api.finish_all(learned)
    answer = api.get(experiment["links"]["complexity"] + "?eps=0.1&delta=0.25").json()
    assert (answer["eps"], answer["delta"], answer["metric"]) == (0.1, 0.25, "nmse")
    cells = {(cell["label"], cell["dim"]): cell for cell in answer["cells"]}
    assert cells["joint", 8]["first"]["value"] == pytest.approx(80)
    assert cells["joint", 8]["first"]["low"] == pytest.approx(80)
    kernel = "kernel_ridge polynomial degree 4"
    assert cells[kernel, 10]["first"] == {
        "value": None, "censored": "above", "low": 800, "high": None, "text": "> 800",
    }  # fmt: skip
    fits = {fit["label"]: fit for fit in answer["fits"]}
    assert fits["joint"]["exponent"] == pytest.approx(1, abs=0.01)
    assert fits["joint"]["low"] <= 1 <= fits["joint"]["high"]
    assert fits["joint"]["theory"]["exponent"] == 1
    assert fits[kernel]["exponent"] is None
    assert "at least 4 sizes" in fits[kernel]["said"]
    assert fits[kernel]["theory"]["exponent"] == 4
    assert any("censored" in warning for warning in answer["warnings"])

    chart = f"{experiment['links']['self']}/charts/complexity"
    drawing = api.get(f"{chart}.svg?eps=0.1&delta=0.25").text
    assert drawing.startswith("<svg")
    assert "joint: dim^1.00" in drawing
    layers = api.get(f"{chart}.vl.json?eps=0.1&delta=0.25").json()
    drawn = {(row["learner"], row["dim"]): row for row in layers["data"]["values"]}
    assert drawn[kernel, 10]["n"] == 800
    assert drawn[kernel, 10]["kind"] == "beyond the grid"

    curves = api.get(experiment["links"]["curves"]).json()["curves"]
    (curve,) = [one for one in curves if (one["label"], one["dim"]) == ("joint", 6)]
    assert [point["n"] for point in curve["points"]] == [50, 100, 200, 400, 800]
    assert curve["points"][1]["error"]["median"] == pytest.approx(0.06)
    assert (curve["points"][0]["diverged"], curve["points"][0]["error"]["seeds"]) == (1, 3)


def test_before_the_first_result_there_are_no_cells_and_a_warning(api: Api):
    experiment = api.submitted()
    answer = api.get(experiment["links"]["complexity"]).json()
    assert answer["cells"] == []
    assert any("no result" in warning for warning in answer["warnings"])
    api.finish_all()


@pytest.mark.parametrize(
    "query", ["eps=0", "eps=-1", "eps=nan", "delta=0", "delta=1", "metric=time", "epsilon=1"]
)
def test_what_makes_no_sense_is_refused_with_its_place(api: Api, query: str):
    experiment = api.submitted()
    answer = api.get(f"{experiment['links']['complexity']}?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"].startswith("#/query/")
    api.finish_all()


def test_a_target_of_the_catalogue_carries_its_theory_sheet(api: Api):
    sheet = api.get("/v1/targets/kernel_hard_instance").json()["theory"]
    assert sheet["degree"] == 8
    assert {bound["exponent"] for bound in sheet["bounds"]} >= {1, 4, 8}
