"""The comparison, its charts and its exports agree on the same numbers."""

import csv
import io
import json
import re

import pytest
import vl_convert

from bfc_core.specs import Metrics, Outcome, Report
from tests.service.conftest import FEATURES, NMSE, Api, report


def test_a_comparison_is_medians_ratios_and_gains(api: Api):
    experiment = api.submitted(seeds=6)
    api.finish_all()
    answer = api.get(experiment["links"]["comparison"]).json()
    assert (answer["experiment_id"], answer["status"], answer["baseline"]) == (
        experiment["id"],
        "succeeded",
        "algorithm_1",
    )
    cells = {cell["label"]: cell for cell in answer["cells"]}
    assert cells["algorithm_1"]["nmse"]["median"] == pytest.approx(0.001 * 1.25)
    assert cells["algorithm_1"]["nmse"]["seeds"] == 6
    assert "bootstrap" in cells["algorithm_1"]["nmse"]["method"]
    assert cells["algorithm_1"]["feature_error"]["2"]["median"] == pytest.approx(
        FEATURES["algorithm_1"][2] * 1.25
    )
    assert cells["algorithm_1"]["alphas"] == [1, 0.1]
    ratios = {(each["label"], each["metric"], each["level"]): each for each in answer["ratios"]}
    assert ratios["layerwise", "nmse", None]["median_ratio"] == pytest.approx(10)
    assert ratios["layerwise", "feature_error", 2]["median_ratio"] == pytest.approx(5)
    assert ratios["layerwise", "nmse", None]["pairs"] == 6
    assert ratios["layerwise", "nmse", None]["p_value"] == pytest.approx(2 / 64)
    (gain,) = answer["backward_gain"]
    assert (gain["level"], gain["pairs"], gain["median"]) == (2, 6, pytest.approx(4))


def test_a_comparison_of_what_has_not_finished_says_so(api: Api):
    experiment = api.submitted()
    answer = api.get(experiment["links"]["comparison"]).json()
    assert all(cell["nmse"]["median"] is None for cell in answer["cells"])
    assert any("not finished" in warning for warning in answer["warnings"])
    for chart in ("comparison", "feature-error"):
        assert api.get(f"{experiment['links']['self']}/charts/{chart}.svg").text.startswith("<svg")
    api.finish_all()


def test_divergence_is_counted_and_never_averaged(api: Api):
    experiment = api.submitted(seeds=3)

    def sometimes(spec):
        if spec.learner.kind == "layerwise" and spec.seed == 1:
            return Report(outcome=Outcome.DIVERGED, metrics=Metrics(nmse=float("nan")), seconds=1)
        return report(spec)

    api.finish_all(sometimes)
    raw = api.get(experiment["links"]["comparison"])
    assert "NaN" not in raw.text
    cell = next(cell for cell in raw.json()["cells"] if cell["label"] == "layerwise")
    assert (cell["succeeded"], cell["diverged"], cell["nmse"]["seeds"]) == (2, 1, 2)
    assert any("diverged" in warning for warning in raw.json()["warnings"])


def values_of(spec: dict) -> list[dict]:
    return spec["data"]["values"]


def test_the_charts_show_the_comparison_s_numbers(api: Api):
    experiment = api.submitted(seeds=3, n=[32, 64])
    api.finish_all()
    comparison = api.get(experiment["links"]["comparison"]).json()
    base = experiment["links"]["self"]
    shown = {
        (row["learner"], row["point"]): row["median"]
        for row in values_of(api.get(f"{base}/charts/comparison.vl.json").json())
    }
    assert sorted(shown.values()) == sorted(cell["nmse"]["median"] for cell in comparison["cells"])
    errors = values_of(api.get(f"{base}/charts/feature-error.vl.json").json())
    expected = [
        summary["median"] for cell in comparison["cells"] for summary in cell["feature_error"].values()
    ]
    assert sorted(row["median"] for row in errors) == sorted(expected)
    for chart in ("comparison", "feature-error"):
        spec = api.get(f"{base}/charts/{chart}.vl.json").text
        # Compiles without a warning that a field or scale is not what Vega-Lite knows.
        assert vl_convert.vegalite_to_vega(spec)["marks"]
        svg = api.get(f"{base}/charts/{chart}.svg")
        assert svg.headers["Content-Type"] == "image/svg+xml"
        assert "algorithm_1" in svg.text
        assert not re.search(r'(href|src)="http', svg.text)


def test_exports_name_learners_apart_and_carry_every_run(api: Api):
    learners = [{"kind": "algorithm_1", "width": 8}, {"kind": "algorithm_1", "width": 9}]
    experiment = api.submitted(learners=learners, name="-formula")
    api.finish_all()
    rows = list(csv.DictReader(io.StringIO(api.get(experiment["links"]["results"]).text)))
    assert [row["label"] for row in rows] == ["algorithm_1 (width 8)"] * 2 + ["algorithm_1 (width 9)"] * 2
    assert {row["experiment"] for row in rows} == {"'-formula"}
    assert [float(row["nmse"]) for row in rows] == pytest.approx(
        [NMSE["algorithm_1"], NMSE["algorithm_1"] * 1.1] * 2
    )
    assert {json.loads(row["widths"])[0] for row in rows} == {2}
    assert {
        "feature_error_2",
        "feature_error_3",
        "form_error_2",
        "seconds",
        "steps",
        "selection",
        "seed",
        "n",
        "dim",
    } <= set(rows[0])


def test_an_experiment_without_results_exports_its_queue(api: Api):
    experiment = api.submitted()
    rows = list(csv.DictReader(io.StringIO(api.get(experiment["links"]["results"]).text)))
    assert [row["status"] for row in rows] == ["queued"] * 8
    assert api.get(f"{experiment['links']['self']}/results.parquet").content[:4] == b"PAR1"
    assert len(api.get(f"{experiment['links']['self']}/results.ndjson").text.splitlines()) == 8
    api.finish_all()
