"""The logistic objective at the door: packed equals solo, and labels alone teach the features."""

import pytest

from bfc_core.run import execute_pack
from bfc_core.specs import Outcome, RunSpec


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


@pytest.mark.parametrize("refinement_steps", [0, 20, 200])
def test_packed_equals_solo(refinement_steps: int) -> None:
    # 200 reach the minimum, where the objective itself no longer tells one step from another.
    specs = [
        run(seed, kind, refinement_steps=refinement_steps)
        for seed in (1, 2)
        for kind in ("algorithm_1", "layerwise")
    ]
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
