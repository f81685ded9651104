"""The logistic objective: its slope, and that packed, resumed and solo training agree on it."""

import pytest
import torch

from bfc_core.run import execute_pack
from bfc_core.specs import Outcome, RunSpec
from bfc_core.training.objective import logistic_slope, logistic_value


@pytest.mark.parametrize("scale", [0.5, 5.0, 100.0])
def test_the_slope_is_the_derivative(scale: float) -> None:
    generator = torch.Generator().manual_seed(3)
    margin = torch.randn(3, 40, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.where(torch.randn(3, 40, generator=generator) > 0, 1.0, -1.0).double()
    (expected,) = torch.autograd.grad(logistic_value(margin, labels, scale).sum(), margin)
    torch.testing.assert_close(logistic_slope(margin.detach(), labels, scale), expected)


def test_a_large_margin_overflows_nothing() -> None:
    margin = torch.tensor([[1e4, -1e4]])
    labels = torch.tensor([[-1.0, -1.0]])
    assert bool(logistic_value(margin, labels, 50.0).isfinite().all())
    torch.testing.assert_close(logistic_slope(margin, labels, 50.0), torch.tensor([[0.5, 0.0]]))


def run(seed: int, kind: str = "algorithm_1", **recipe: object) -> RunSpec:
    learner = {"kind": kind, "width": 8, "batch_size": 64, "steps_per_stage": 192, "precision": "float64"}
    return RunSpec.model_validate(
        {
            "target": {
                "kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.2],
                "task": "classification",
            },
            "learner": learner | recipe,
            "n": 400,
            "dim": 6,
            "seed": seed,
            "budget": {"test_samples": 1000},
        }
    )  # fmt: skip


def test_packed_equals_solo() -> None:
    specs = [run(seed, kind) for seed in (1, 2) for kind in ("algorithm_1", "layerwise")]
    for spec, packed in zip(specs, execute_pack(specs), strict=True):
        (alone,) = execute_pack([spec])
        assert packed.outcome is alone.outcome is Outcome.SUCCEEDED
        assert packed.metrics is not None
        assert alone.metrics is not None
        assert packed.metrics.error == alone.metrics.error
        for level, error in alone.metrics.feature_error.items():
            assert packed.metrics.feature_error[level] == pytest.approx(error, rel=1e-9)


def test_labels_alone_teach_the_lower_feature() -> None:
    (report,) = execute_pack([run(5, steps_per_stage=512, width=12)])
    assert report.metrics is not None
    assert report.metrics.error is not None
    assert report.metrics.error < 0.15
    assert report.metrics.feature_error_scale_free[2] is not None
    assert report.metrics.feature_error_scale_free[2] < 0.3


def test_regression_and_classification_are_no_pack() -> None:
    labelled = run(1)
    regression = labelled.model_copy(
        update={"target": labelled.target.model_copy(update={"task": "regression"})}
    )
    with pytest.raises(ValueError, match="do not share"):
        execute_pack([labelled, regression])
