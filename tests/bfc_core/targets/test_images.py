"""Digits: a data set with a split by seed, learned as one-hot vectors."""

import pytest
import torch
from pydantic import ValidationError

from bfc_core.evaluation import pose
from bfc_core.learners.kernel_ridge import fit_kernel_ridge
from bfc_core.run import execute_pack
from bfc_core.specs import ExperimentSpec, Outcome, RunSpec
from bfc_core.specs.images import IMAGE_SETS

DATA_SET = {"kind": "data_set"}
MYRTLE = {"kind": "kernel_ridge", "kernel": {"kind": "myrtle", "image": [8, 8, 1]}}
CONVOLUTIONAL = {"kind": "convolutional", "image": [8, 8, 1], "depth": 2, "readout": "flatten"}


def body(learner: dict[str, object], **changes: object) -> dict[str, object]:
    run = {
        "target": {"kind": "images"},
        "inputs": DATA_SET,
        "learner": learner,
        "n": 200,
        "dim": 64,
        "seed": 0,
    }
    return run | {"budget": {"test_samples": 200}} | changes


def test_the_split_is_nested_and_its_parts_are_apart() -> None:
    sizes = IMAGE_SETS["digits"]
    whole = pose(RunSpec.model_validate(body({"kind": "linear"}, n=sizes.training, budget={})))
    few = pose(RunSpec.model_validate(body({"kind": "linear"}, n=100)))
    other = pose(RunSpec.model_validate(body({"kind": "linear"}, n=100, seed=1)))
    assert len(whole.test_x) == sizes.test
    assert torch.equal(whole.x[:100], few.x)
    assert torch.equal(whole.test_x[:200], few.test_x)
    assert not torch.equal(few.x, other.x)
    rows = torch.cat([whole.x, whole.test_x])
    assert len(rows) == 1797 == len(rows.unique(dim=0))
    assert float(rows.mean()) == pytest.approx(0.0, abs=1e-12)
    assert float(rows.square().mean()) == pytest.approx(1.0)
    assert torch.equal(whole.y.sum(1), torch.ones(sizes.training, dtype=torch.float64))


@pytest.mark.parametrize(
    ("learner", "most"),
    [
        ({"kind": "linear"}, 0.16),
        ({"kind": "kernel_ridge", "kernel": {"kind": "rbf", "bandwidths": [0.5, 1.0]}}, 0.08),
        ({"kind": "kernel_ridge", "kernel": {"kind": "rbf", "bandwidths": [1.0]}, "ridges": [1e-3]}, 0.1),
        ({"kind": "kernel_ridge", "kernel": CONVOLUTIONAL}, 0.08),
        ({"kind": "random_features", "count": 300}, 0.16),
        ({"kind": "empirical_ntk", "width": 64}, 0.12),
    ],
    ids=["linear", "rbf", "one ridge", "convolutional", "random features", "empirical ntk"],
)
def test_classes_are_learned_through_the_door(learner: dict[str, object], most: float) -> None:
    """200 digits; chance errs on nine tenths."""
    (report,) = execute_pack([RunSpec.model_validate(body(learner))])
    assert report.outcome is Outcome.SUCCEEDED
    assert report.metrics is not None
    assert report.metrics.error is not None
    assert report.metrics.accuracy == pytest.approx(1 - report.metrics.error)
    assert report.metrics.error < most
    assert report.metrics.nmse is not None
    assert 0 < report.metrics.nmse < 0.6
    assert not report.metrics.level_coefficient


def test_every_class_is_a_regression_of_its_own() -> None:
    """The outputs of all classes together are those of one class at a time, with the ridge that it chose."""
    spec = RunSpec.model_validate(
        body({"kind": "kernel_ridge", "kernel": {"kind": "rbf", "bandwidths": [1.0]}})
    )
    assert spec.learner.kind == "kernel_ridge"
    problem = pose(spec)
    together = fit_kernel_ridge(spec.learner, problem.x, problem.y, lambda *_: None, None)
    alone = fit_kernel_ridge(spec.learner, problem.x, problem.y[:, 3], lambda *_: None, None)
    torch.testing.assert_close(together(problem.test_x)[:, 3], alone(problem.test_x), rtol=1e-9, atol=1e-9)
    least, largest = (together.selection[f"{end}_relative_ridge"] for end in ("least", "largest"))
    assert least <= alone.selection["relative_ridge"] <= largest


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"n": 1298}, "1297 training rows"),
        ({"dim": 32}, "have dim 64"),
        ({"inputs": {"kind": "gaussian"}}, "belong together"),
        ({"target": {"kind": "worked_example_1"}}, "belong together"),
        ({"learner": {"kind": "nearest_neighbours"}}, "images has classes"),
        ({"learner": {"kind": "algorithm_1"}}, "has none"),
        ({"learner": MYRTLE | {"feature_map": "quadratic"}}, "feature_map must be"),
        ({"learner": {"kind": "sequential_kernel", "kernel": MYRTLE["kernel"]}}, "a kernel on images cannot"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        RunSpec.model_validate(body({"kind": "linear"}) | changes)


def test_a_kernel_on_images_names_the_dim_that_it_needs() -> None:
    product = {"kind": "product", "factors": [{"kind": "rbf"}, CONVOLUTIONAL]}
    learner = {"kind": "kernel_ridge", "kernel": {"kind": "sum", "terms": [{"kind": "rbf"}, product]}}
    spec = {"name": "x", "target": {"kind": "worked_example_1"}, "learners": [learner], "n": 50, "dim": 64}
    assert ExperimentSpec.model_validate(spec).cell_count() == 3
    with pytest.raises(
        ValidationError, match=r"terms.1.factors.1 of learner 0 reads images of 8 × 8 × 1 = 64"
    ):
        ExperimentSpec.model_validate(spec | {"dim": [64, 63]})
    with pytest.raises(ValidationError, match="one longer than dim"):
        ExperimentSpec.model_validate(
            spec | {"target": {"kind": "worked_example_1", "task": "classification"}}
        )
