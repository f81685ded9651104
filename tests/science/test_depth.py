"""Four and five levels, on dims, widths, alphas and seeds other than those of docs/records/2026-11-24-degree-16."""

import pytest

from bfc_core.packing import packs_of
from bfc_core.run import execute_pack
from bfc_core.specs import ExperimentSpec, Metrics

pytestmark = [pytest.mark.science, pytest.mark.timeout(1800)]


def metrics_of(
    target: dict[str, object], learner: dict[str, object], dim: int, seeds: list[int], n: int = 6000
) -> list[Metrics]:
    spec = ExperimentSpec.model_validate(
        {
            "name": "depth",
            "target": {"kind": "hierarchical_quadratic"} | target,
            "learners": [{"kind": "algorithm_1"} | learner],
            "n": n,
            "dim": dim,
            "seeds": seeds,
        }
    )
    found: list[Metrics] = []
    for pack in packs_of(spec.runs()):
        for report in execute_pack(pack):
            assert report.metrics is not None
            found.append(report.metrics)
    return found


def is_recovered(metrics: Metrics) -> bool:
    assert metrics.nmse is not None
    errors = metrics.feature_error_scale_free.values()
    return metrics.nmse <= 1e-5 and all(error is not None and error <= 1e-2 for error in errors)


def test_degree_16_is_recovered_on_most_seeds() -> None:
    target = {
        "widths": [2, 2, 1],
        "alphas": [1, 0.22, 0.06],
        "connections": {2: [1], 3: [2, 0], 4: [3, 1]},
    }
    found = metrics_of(target, {"steps_per_stage": 1500}, dim=15, seeds=[31, 32, 33, 34, 35])
    assert sum(is_recovered(metrics) for metrics in found) >= 3


def test_degree_32_is_learnt() -> None:
    """The setting of docs/records/2026-11-25-degree-32, on seeds that no record has."""
    target = {
        "widths": [3, 2, 2, 1],
        "alphas": [1, 0.25, 0.08, 0.03],
        "connections": {2: [1], 3: [2, 0], 4: [3, 1], 5: [4, 0]},
    }
    found = metrics_of(target, {}, dim=20, seeds=[8, 9, 10], n=30_000)
    nmse = sorted(metrics.nmse or 0.0 for metrics in found)
    assert nmse[1] <= 1e-3


def test_degree_8_is_learnt_by_first_order_steps_alone() -> None:
    target = {"widths": [3, 2], "alphas": [1, 0.12]}
    found = metrics_of(target, {"refinement_steps": 0, "steps_per_stage": 3000}, dim=18, seeds=[41, 42, 43])
    nmse = sorted(metrics.nmse or 0.0 for metrics in found)
    level_2 = sorted(metrics.feature_error[2] or 0.0 for metrics in found)
    assert nmse[1] <= 2e-4
    assert level_2[1] <= 2e-4
