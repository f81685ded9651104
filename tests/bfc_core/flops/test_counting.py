"""The counter against torch's own, over the fits of all learners, and against what plans expect."""

from collections.abc import Callable
from math import prod
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bfc_core.evaluation import pose
from bfc_core.flops import algebra
from bfc_core.flops.counting import FlopCounter, charge, charged
from bfc_core.flops.kernels import DEFAULT_RIDGE_COUNT
from bfc_core.kernels.ridge import DEFAULT_RIDGES
from bfc_core.packing import planned_flops
from bfc_core.run import execute_pack
from bfc_core.specs import Metrics, Outcome, RunSpec

TARGET = {"kind": "hierarchical_quadratic", "widths": [3, 2], "alphas": [1, 0.1]}
NTK = {"kind": "ntk"}


def ridge(kernel: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"kind": "kernel_ridge", "kernel": kernel} | fields


# What a plan knows to the last operation: nothing in them ends early.
FORESEEN = [
    ridge(NTK),
    ridge({"kind": "rbf"}),
    ridge({"kind": "laplace", "bandwidths": [3]}, feature_map="quadratic"),
    ridge({"kind": "sum", "terms": [NTK, {"kind": "product", "factors": [NTK, {"kind": "arc_cosine"}]}]}),
    ridge({"kind": "polynomial", "degree": 2}),
    ridge({"kind": "polynomial", "degree": 4}),
    ridge(NTK, solver="nystrom", centres=64),
    {"kind": "empirical_ntk", "width": 32, "depth": 2},
    {"kind": "random_features", "count": 64},
    {"kind": "random_features", "features": "fourier", "count": 200},
    {"kind": "feature_map_regression"},
    {"kind": "linear"},
    {"kind": "nearest_neighbours"},
    {"kind": "oracle", "knows": "constant"},
    {"kind": "one_giant_step", "width": 50},
    {"kind": "staged_spectral"},
    {"kind": "forward_lofi", "layers": 3},
    {"kind": "tensor_decomposition"},
    {"kind": "tensor_decomposition", "order": 4},
    *(
        {"kind": "quadratic_network", "second": second, "steps_per_phase": 3, "batch_size": 16}
        for second in ("joint", "layerwise", "again")
    ),
]
# What ends when it has reached something, and the factor within which a plan must know it on these few samples.
FOUND_OUT = [
    (ridge(NTK, solver="iterative", centres=64), 1.5),
    ({"kind": "recursive_feature_machine", "rounds": 2}, 1.5),
    ({"kind": "sequential_kernel", "kernel": NTK}, 1.1),
    ({"kind": "back_lofi"}, 3),
]
# Of these torch sees a part only, if any.
UNSEEN = [
    ({"kind": "feature_map_regression", "method": "omp"}, 3),
    ({"kind": "feature_map_regression", "method": "lars"}, 3),
    ({"kind": "gradient_boosting", "most_trees": 8}, 1.5),
    ({"kind": "sparse_coding", "atoms": 16}, 3),
    (ridge({"kind": "convolutional", "image": [3, 2, 1], "depth": 2}), 1.001),
]


def run_of(learner: dict[str, Any], n: int = 180, **fields: Any) -> RunSpec:
    body = {
        "target": TARGET,
        "learner": learner,
        "n": n,
        "dim": 6,
        "seed": 0,
        "budget": {"test_samples": 100},
    }
    return RunSpec.model_validate(body | fields)


def shaped(one: Callable[..., int]) -> Callable[..., int]:
    return lambda shape, *_args, out_shape=None, **_kwargs: one(*shape[-2:])  # noqa: ARG005


def added(_shape: Any, first: Any, second: Any, **_kwargs: Any) -> int:
    return 2 * torch.Size(first).numel() * (second[-1] if len(second) > 1 else 1)


def multiplied(first: Any, second: Any, **_kwargs: Any) -> int:
    return added(None, first, second)


ATEN = torch.ops.aten
MORE = {
    ATEN.mv: multiplied,
    ATEN.dot: multiplied,
    **dict.fromkeys((ATEN.addmm_, ATEN.addmv, ATEN.addmv_, ATEN.baddbmm_), added),
    ATEN.linalg_cholesky_ex: lambda shape, **_: prod(shape[:-2]) * algebra.cholesky(shape[-1]),
    ATEN._linalg_eigh: lambda shape, *_args, **_: algebra.eigendecomposition(shape[-1]),
    ATEN.cholesky_solve: lambda right, factor, **_: (
        2 * prod(factor[:-2]) * algebra.triangular_solve(factor[-1], right[-1])
    ),
    # Under a counter of this depth torch finds the vectors too.
    ATEN._linalg_svd: shaped(algebra.singular_values),
    ATEN.linalg_solve_triangular: lambda shape, right, *, left=True, **_: algebra.triangular_solve(
        shape[-1], right[-1] if left else right[-2]
    ),
}
"""What torch's counter, made for networks, leaves out."""


@pytest.mark.parametrize("learner", [*FORESEEN, *(learner for learner, _ in FOUND_OUT)], ids=str)
def test_a_run_counts_what_torch_counts(learner: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(learner)
    pose(run)
    # Metrics are not counted: here there are none.
    monkeypatch.setattr("bfc_core.evaluation._measured", lambda *_: Metrics(nmse=0))
    with FlopCounterMode(display=False, custom_mapping=MORE) as torchs:
        (report,) = execute_pack([run])
    with FlopCounterMode(display=False, custom_mapping=MORE) as posing:
        pose(run)
    assert report.flops == torchs.get_total_flops() - posing.get_total_flops()


@pytest.mark.parametrize("learner", FORESEEN, ids=str)
def test_a_plan_expects_what_is_counted(learner: dict[str, Any]) -> None:
    run = run_of(learner)
    (report,) = execute_pack([run])
    assert report.outcome is Outcome.SUCCEEDED
    assert planned_flops(run) == report.flops


@pytest.mark.parametrize(("learner", "factor"), [*FOUND_OUT, *UNSEEN], ids=str)
def test_a_plan_is_near_what_is_counted_where_work_ends_when_it_is_done(
    learner: dict[str, Any], factor: float
) -> None:
    run = run_of(learner)
    (report,) = execute_pack([run])
    assert report.flops
    assert report.flops / factor < planned_flops(run) < report.flops * factor


@pytest.mark.parametrize(
    "learner",
    [ridge(NTK, ridges=[1e-3]), ridge(NTK, ridges=[1e-3, 1e-1]), ridge(NTK, solver="nystrom", centres=600)],
    ids=str,
)
def test_blocks_of_a_factor_are_foreseen_too(learner: dict[str, Any]) -> None:
    run = run_of(learner, n=1100)
    (report,) = execute_pack([run])
    assert planned_flops(run) == pytest.approx(report.flops, rel=0.06)


def test_many_samples_are_foreseen_by_a_typical_number_of_refits() -> None:
    run = run_of(ridge(NTK), n=2100)
    (report,) = execute_pack([run])
    assert report.flops
    assert report.flops / 2 < planned_flops(run) < 2 * report.flops


def test_the_default_grid_has_as_many_ridges_as_plans_expect() -> None:
    assert len(DEFAULT_RIDGES) == DEFAULT_RIDGE_COUNT


def test_a_product_counts_two_a_multiply_add_and_elementwise_work_nothing() -> None:
    x = torch.ones(3, 5)
    with FlopCounter() as counter:
        (x @ x.mT).add_(1.0).exp_()
    assert counter.flops == 2 * 3 * 5 * 3
    x @ x.mT
    assert counter.flops == 2 * 3 * 5 * 3, "nothing is counted outside"


def test_what_is_charged_replaces_what_happened() -> None:
    x = torch.ones(4, 4)
    with charged(7):
        x @ x
    with FlopCounter() as counter:
        charge(5)
        with charged(7):
            x @ x
            charge(1)
    assert counter.flops == 12


def test_what_an_error_ended_counts_as_far_as_it_came() -> None:
    counter = FlopCounter()
    x = torch.ones(2, 2)

    def interrupted() -> None:
        with counter:
            x @ x
            raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        interrupted()
    assert counter.flops == 16
    with FlopCounter() as after:
        pass
    assert after.flops == 0
