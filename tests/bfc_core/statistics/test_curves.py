"""From rows to curves and n*: what diverged, failed or is missing."""

import pytest

from bfc_core.specs import ExperimentSpec, Metrics
from bfc_core.statistics.aggregation import Row
from bfc_core.statistics.curves import complexity_of, curves_of, points_of

KERNEL = {"kind": "kernel_ridge", "kernel": {"kind": "polynomial", "degree": 4}}
SPEC = ExperimentSpec.model_validate(
    {
        "name": "curves",
        "target": {"kind": "hierarchical_quadratic", "widths": [2, 1]},
        "learners": [{"kind": "joint"}, KERNEL],
        "n": [100, 200, 400, 800],
        "dim": [4, 6, 9, 13],
        "seeds": 4,
    }
)


def rows() -> list[Row]:
    # joint needs 10 dim samples for nMSE 0.1, the kernel dim³, both with error falling as 1 / n.
    found = []
    for spec in SPEC.runs():
        star = 10 * spec.dim if spec.learner.kind == "joint" else spec.dim**3
        found.append(Row(spec, "succeeded", Metrics(nmse=0.1 * star / spec.n, error=0.3)))
    return found


def test_every_learner_and_dim_has_a_curve_and_every_learner_a_fit() -> None:
    found = complexity_of(rows(), eps=0.05, delta=0.2)
    stars = {(cell.curve.label, cell.curve.dim): cell.found.first.value for cell in found.cells}
    assert len(stars) == 8
    assert stars["joint", 9] == pytest.approx(180)
    joint, kernel = found.fits
    assert joint.growth.exponent is None  # below the grid at dim 4: three sizes are left
    assert "already below eps at the smallest n at dim 4" in joint.growth.said
    assert kernel.growth.exponent is None
    assert any("kernel_ridge polynomial degree 4 at dim 13" in warning for warning in found.warnings)
    assert joint.theory is not None
    assert joint.theory.exponent == 1
    assert kernel.theory is not None
    assert kernel.theory.exponent == 4


def test_diverged_runs_are_counted_and_lost_runs_said() -> None:
    changed = rows()
    changed[0] = Row(changed[0].spec, "diverged", None)
    changed[1] = Row(changed[1].spec, "failed", None)
    (curve,) = [curve for curve in curves_of(changed) if curve.dim == 4 and curve.learner.kind == "joint"]
    first = points_of(curve)[0]
    assert (first.diverged, first.summary.seeds) == (1, 2)
    assert curve.unfinished == 1
    assert any("1 runs have no result" in word for word in complexity_of(changed, 0.05, 0.2).warnings)


def test_the_least_delta_that_a_number_can_be_has_a_warning_too() -> None:
    warnings = complexity_of(rows(), eps=0.05, delta=5e-324).warnings
    assert any(
        "delta = 4.94066e-324 needs at least 1000000000000000 seeds" in warning for warning in warnings
    )


def test_the_classification_error_is_a_metric_of_its_own() -> None:
    found = complexity_of(rows(), eps=0.2, delta=0.2, metric="error")
    assert {cell.found.first.censored for cell in found.cells} == {"above"}
