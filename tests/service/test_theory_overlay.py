"""Theory over learning curves, as the HTTP door draws it."""

from math import e, log

import pytest
import vl_convert

from bfc_core.theory.learning_curve import expected_mse, exponential_kernel_on_the_cube
from tests.service.conftest import Api

RBF = {"kind": "kernel_ridge", "kernel": {"kind": "rbf", "bandwidths": [1.0]}, "ridges": [1e-3 / e]}
STAIRCASE = {
    "target": {"kind": "staircase"},
    "inputs": {"kind": "cube"},
    "learners": [RBF, {"kind": "linear"}],
}


def chart_of(api: Api, parameters: str = "?theory=true", **changes: object) -> dict:
    experiment = api.submitted(**changes)
    api.finish_all()
    base = f"{experiment['links']['self']}/charts/comparison"
    svg = api.get(f"{base}.svg{parameters}")
    assert svg.headers["Content-Type"] == "image/svg+xml"
    found = api.get(f"{base}.vl.json{parameters}")
    assert vl_convert.vegalite_to_vega(found.text)["marks"]
    return found.json() | {"svg": svg.text}


def lines_of(chart: dict) -> dict[tuple[str, str], float]:
    return {
        (row["theory"], row["text"]): row["n"]
        for row in chart["data"]["values"]
        if row.get("theory") not in (None, "curve")
    }


def test_thresholds_and_peaks_stand_where_theory_has_them(api: Api):
    chart = chart_of(api, n=[16, 32, 256], dim=8, **STAIRCASE)
    assert lines_of(chart) == {
        ("threshold", "dim^1"): 8,
        ("threshold", "dim^2"): 64,
        ("threshold", "dim^3"): 512,
        ("peak", "dim^2/2!"): 32,
        ("peak", "dim^3/3!"): pytest.approx(512 / 6),
    }
    assert "dim^2/2!" in chart["svg"]
    assert any("dotted" in line for line in chart["title"]["subtitle"])


def test_the_curve_is_the_learning_curve_formula(api: Api):
    """exp(x·z/d) is e times the RBF of bandwidth 1: its published curve, over the target's variance of 3."""
    chart = chart_of(api, n=[128, 512], dim=20, **STAIRCASE)
    curve = [row for row in chart["data"]["values"] if row.get("theory") == "curve"]
    spectrum = exponential_kernel_on_the_cube(20)
    assert (curve[0]["n"], curve[-1]["n"]) == (pytest.approx(128), pytest.approx(512))
    for row in curve[:: len(curve) // 5]:
        expected = expected_mse(spectrum, {1: 1.0, 2: 1.0, 3: 1.0}, row["n"], 1e-3) / 3
        assert row["value"] == pytest.approx(expected, rel=1e-6)
    assert curve[0]["value"] == pytest.approx(2.06 / 3, rel=0.01)
    assert log(curve[-1]["n"] / curve[-2]["n"]) == pytest.approx(log(4) / (len(curve) - 1))


def test_the_lower_bound_is_drawn_for_the_hard_instance_in_every_panel(api: Api):
    kernel = {"kind": "kernel_ridge", "kernel": {"kind": "rbf"}}
    hard = {"target": {"kind": "kernel_hard_instance"}, "learners": [kernel], "n": [8, 64], "dim": [30, 40]}
    chart = chart_of(api, **hard)
    bounds = {row["panel"]: row["n"] for row in chart["data"]["values"] if row.get("theory") == "lower bound"}
    # C(30, 4)/1000 = 27.4 and C(40, 4)/1000 = 91.4.
    assert {panel.split(",")[0]: n for panel, n in bounds.items()} == {
        "dim = 30": pytest.approx(27.405),
        "dim = 40": pytest.approx(91.39),
    }


def test_without_the_parameter_or_a_kernel_nothing_is_added(api: Api):
    plain = chart_of(api, "", n=[16, 32], dim=8, **STAIRCASE)
    assert not any("theory" in row for row in plain["data"]["values"])
    no_kernel = chart_of(api, n=[16, 32], dim=8, **(STAIRCASE | {"learners": [{"kind": "linear"}]}))
    assert not any("theory" in row for row in no_kernel["data"]["values"])
    assert any("nothing is known" in line for line in no_kernel["title"]["subtitle"])
    by_learner = chart_of(api, n=[32], dim=8, **STAIRCASE)
    assert not any("theory" in row for row in by_learner["data"]["values"])


def test_theory_is_a_yes_or_a_no(api: Api):
    experiment = api.submitted()
    answer = api.get(f"{experiment['links']['self']}/charts/comparison.vl.json?theory=perhaps")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "#/query/theory"
    api.finish_all()
