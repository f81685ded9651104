"""Every baseline through the door, and what each is good at."""

from math import log, sqrt
from typing import get_args

import pytest
import torch

from bfc_core.errors import PackInterrupted, ResourceLimitExceeded
from bfc_core.kernels.empirical_ntk import EmpiricalNtkKernel
from bfc_core.kernels.explicit import fourier_features, product_features, relu_features
from bfc_core.kernels.network import NetworkKernel
from bfc_core.kernels.rbf import RbfKernel
from bfc_core.kernels.shared import SharedGrams
from bfc_core.learners.baseline import FitContext
from bfc_core.learners.baselines import fit_baseline
from bfc_core.learners.spectral_baselines import moment_components, spectral_directions
from bfc_core.packing import estimate_run, packs_of
from bfc_core.run import execute_pack
from bfc_core.specs import Outcome, RunSpec, WorkedExample1
from bfc_core.specs.baselines import AnyBaseline, feature_count
from bfc_core.specs.learners import label_of
from bfc_core.targets.worked_examples import build_worked_example_1
from bfc_core.training.progress import SilentObserver

DIM = 6
QUICK: dict[str, dict[str, object]] = {
    "empirical_ntk": {"width": 64},
    "random_features": {"count": 100},
    "feature_map_regression": {},
    "sequential_kernel": {"kernel": {"kind": "polynomial", "degree": 2}, "stages": 2},
    "linear": {},
    "nearest_neighbours": {},
    "gradient_boosting": {"most_trees": 20, "depths": [3], "step_sizes": [0.1]},
    "oracle": {},
    "one_giant_step": {"width": 50},
    "staged_spectral": {},
    "forward_lofi": {"filters": 4},
    "back_lofi": {"filters": 4},
    "tensor_decomposition": {"components": 2},
    "sparse_coding": {"atoms": 10, "nonzero": 2},
    "quadratic_network": {"widths": [4, 2], "steps_per_phase": 20, "batch_size": 16},
}


def spec(kind: str, n: int = 96, **changes: object) -> RunSpec:
    return RunSpec.model_validate(
        {
            "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
            "learner": {"kind": kind, **QUICK[kind], **changes},
            "n": n,
            "dim": DIM,
            "seed": 3,
            "budget": {"test_samples": 200},
        }
    )


def normal(rows: int, columns: int = DIM, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def error(kind: str, y: torch.Tensor, truth, x: torch.Tensor, **changes: object) -> float:
    """nMSE on fresh points after a fit to y."""
    learner = spec(kind, **changes).learner
    target = build_worked_example_1(WorkedExample1(kind="worked_example_1"), x.shape[1])
    context = FitContext(3, lambda *_: None, SharedGrams())
    fitted = fit_baseline(learner, x, y, target, context)
    fresh = normal(1000, x.shape[1], seed=77)
    return float((fitted(fresh) - truth(fresh)).square().mean() / truth(fresh).var())


def test_every_baseline_of_the_union_is_tried_here() -> None:
    kinds = {get_args(member.model_fields["kind"].annotation)[0] for member in get_args(AnyBaseline)}
    assert kinds == set(QUICK)


@pytest.mark.parametrize("kind", QUICK)
def test_a_baseline_succeeds_through_the_door_and_repeats_itself(kind: str) -> None:
    run = spec(kind)
    ((pack,),) = (packs_of([run]),)
    reports = [execute_pack(pack)[0] for _ in range(2)]
    assert reports[0].outcome is Outcome.SUCCEEDED
    assert reports[0].metrics is not None
    assert reports[0].metrics.nmse is not None
    assert reports[0].metrics.nmse == reports[1].metrics.nmse
    assert reports[0].selection == reports[1].selection
    assert label_of(run.learner).startswith(kind)


@pytest.mark.parametrize("kind", QUICK)
def test_an_estimate_grows_with_n_and_a_run_beyond_its_limit_is_refused(kind: str) -> None:
    small, large = estimate_run(spec(kind)), estimate_run(spec(kind, n=20_000))
    assert large.seconds > small.seconds > 0
    assert large.memory_bytes > small.memory_bytes > 0
    with pytest.raises(ResourceLimitExceeded, match=f"{kind} on 96 samples"):
        execute_pack([spec(kind)], memory_limit_bytes=small.memory_bytes - 1)


@pytest.mark.parametrize("kind", sorted(set(QUICK) - {"oracle", "nearest_neighbours", "sparse_coding"}))
def test_a_baseline_can_be_stopped(kind: str) -> None:
    class Stop(SilentObserver):
        def stop_requested(self) -> bool:
            return True

    with pytest.raises(PackInterrupted):
        execute_pack([spec(kind)], Stop())


def test_progress_never_goes_back() -> None:
    seen = []

    class Watch(SilentObserver):
        def progressed(self, step: int, steps: int) -> None:
            seen.append((step, steps))

    execute_pack([spec("staged_spectral"), spec("back_lofi")], Watch())
    assert seen == sorted(seen)
    assert seen[-1] == (200, 200)


# --- the kernels and features behind them ---------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "erf", "quadratic", "centred_quadratic"])
@pytest.mark.parametrize("depth", [1, 3])
def test_the_empirical_tangent_kernel_is_the_product_of_autograds_gradients(
    activation: str, depth: int
) -> None:
    kernel = EmpiricalNtkKernel(DIM, 11, depth, activation, 0.9, 0.2, torch.Generator().manual_seed(1))
    apply = {
        "relu": torch.relu,
        "erf": torch.erf,
        "quadratic": torch.square,
        "centred_quadratic": lambda z: (z.square() - 1) / sqrt(2),
    }[activation]
    parameters = [tensor.requires_grad_() for tensor in (*kernel.weights, *kernel.biases)]

    def network(h: torch.Tensor) -> torch.Tensor:
        for layer, (weights, biases) in enumerate(zip(kernel.weights, kernel.biases, strict=True)):
            h = sqrt(0.9 / len(weights)) * h @ weights + sqrt(0.2) * biases
            h = apply(h) if layer < depth else h
        return h[0]

    x, z = normal(4), normal(3, seed=1)
    gradients = [
        [torch.cat([g.flatten() for g in torch.autograd.grad(network(row), parameters)]) for row in rows]
        for rows in (x, z)
    ]
    expected = torch.stack(gradients[0]) @ torch.stack(gradients[1]).mT
    with torch.no_grad():
        torch.testing.assert_close(kernel.gram(x, z), expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(kernel.block(x, z), expected, rtol=1e-10, atol=1e-10)
        gram = kernel.gram(x)
        torch.testing.assert_close(gram, kernel.block(x, x), rtol=1e-10, atol=1e-10)
    assert torch.equal(gram, gram.mT)


def test_blocks_of_the_empirical_kernel_are_the_kernel() -> None:
    kernel = EmpiricalNtkKernel(DIM, 8, 2, "relu", 2.0, 0.1, torch.Generator().manual_seed(1))
    x, z = normal(700), normal(600, seed=1)
    torch.testing.assert_close(kernel.gram(x), kernel.block(x, x), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(kernel.gram(x, z), kernel.block(x, z), rtol=1e-10, atol=1e-10)


def test_a_wide_network_is_near_its_limit() -> None:
    x = normal(5)
    limit = NetworkKernel(True, 1, "relu", 2.0, 0.1).gram(x)

    def distance(width: int) -> float:
        errors = [
            EmpiricalNtkKernel(DIM, width, 1, "relu", 2.0, 0.1, torch.Generator().manual_seed(s)).gram(x)
            - limit
            for s in range(10)
        ]
        return float(torch.stack([e.norm() for e in errors]).mean() / limit.norm())

    assert distance(6400) < 0.2 * distance(64)


def test_the_error_of_a_finite_width_falls_as_its_inverse_root() -> None:
    """Two layers of ReLU, no bias, 6 unit vectors in R^10: .109 at width 256 (the catalogue), slope −1/2."""
    x = normal(6, 10)
    x /= x.norm(dim=1, keepdim=True)
    limit = NetworkKernel(True, 1, "relu", 2.0, 0.0).gram(x)
    errors = {}
    for width in (256, 65_536):
        grams = [
            EmpiricalNtkKernel(10, width, 1, "relu", 2.0, 0.0, torch.Generator().manual_seed(s)).gram(x)
            for s in range(20)
        ]
        errors[width] = float(torch.stack([(gram - limit).norm() for gram in grams]).mean() / limit.norm())
    assert errors[256] == pytest.approx(0.109, rel=0.1)
    assert log(errors[256] / errors[65_536]) / log(256) == pytest.approx(0.5, abs=0.05)


def test_random_features_tend_to_their_kernels() -> None:
    x = normal(5)
    cosines = fourier_features(DIM, 200_000, 0.8, torch.Generator().manual_seed(1))(x)
    torch.testing.assert_close(cosines @ cosines.mT, RbfKernel(0.8).gram(x), rtol=0, atol=0.02)
    neurons = relu_features(DIM, 200_000, torch.Generator().manual_seed(1))(x)
    with_one = torch.cat([x, torch.ones(5, 1, dtype=torch.float64)], dim=1)
    limit = NetworkKernel(False, 1, "relu", 1.0, 0.0).gram(with_one)
    torch.testing.assert_close(neurons @ neurons.mT, 2 * limit, rtol=0.03, atol=0.02)


@pytest.mark.parametrize("basis", ["monomial", "hermite"])
def test_products_are_all_of_them_and_hermite_ones_are_orthonormal(basis: str) -> None:
    function, count = product_features(3, 4, basis)
    assert count == feature_count(3, 4) == 34
    x = normal(400_000, 3)
    values = function(x)
    assert values.shape == (400_000, count)
    assert torch.linalg.matrix_rank(values[:200]) == count
    if basis == "hermite":
        moments = values.mT @ values / len(x)
        torch.testing.assert_close(moments, torch.eye(count, dtype=torch.float64), rtol=0, atol=0.15)
        assert float(values.mean(0).abs().max()) < 0.02
    else:
        assert any(torch.allclose(column, x[:, 0] ** 2 * x[:, 2]) for column in values.mT)


# --- what each is good at -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ridge", "lasso", "lars", "omp"])
def test_feature_maps_find_a_sparse_polynomial(method: str) -> None:
    x = normal(150)

    def truth(rows: torch.Tensor) -> torch.Tensor:
        return 2 + rows[:, 0] * rows[:, 1] - rows[:, 2] ** 3 + 3 * rows[:, 2]

    assert error("feature_map_regression", truth(x), truth, x, degree=3, method=method) < 1e-3


def test_orthogonal_matching_pursuit_takes_the_terms_that_are_there() -> None:
    x = normal(200)
    y = x[:, 0] * x[:, 1] + x[:, 2]
    learner = spec("feature_map_regression", degree=2, method="omp").learner
    target = build_worked_example_1(WorkedExample1(kind="worked_example_1"), DIM)
    noisy = y + 0.1 * normal(200, 1, seed=5)[:, 0]
    fitted = fit_baseline(learner, x, noisy, target, FitContext(3, lambda *_: None, SharedGrams()))
    assert 2 <= fitted.selection["terms"] <= 4


def test_a_linear_target_is_linear_regressions() -> None:
    x = normal(80)
    assert error("linear", 3 + x @ torch.ones(DIM, dtype=torch.float64), lambda r: 3 + r.sum(1), x) < 1e-8


def test_oracles_order_themselves() -> None:
    nmse = {
        knows: execute_pack([spec("oracle", knows=knows)])[0].metrics.nmse
        for knows in ("features", "bayes", "constant")
    }
    assert nmse["bayes"] == 0
    assert nmse["features"] < 1e-8
    assert nmse["constant"] > 0.9


def test_a_sequence_of_kernels_beats_its_first_stage_on_a_composition() -> None:
    x = normal(400)

    def truth(rows: torch.Tensor) -> torch.Tensor:
        inner = rows[:, 0] * rows[:, 1] + rows[:, 2]
        return inner + 0.3 * inner**2

    kernel = {"kind": "polynomial", "degree": 2}
    one = error("sequential_kernel", truth(x), truth, x, kernel=kernel, stages=1)
    assert error("sequential_kernel", truth(x), truth, x, kernel=kernel, stages=3) < 0.5 * one


def test_neighbours_interpolate_and_boosting_learns() -> None:
    x = normal(400)

    def step(rows: torch.Tensor) -> torch.Tensor:
        return (rows[:, 0] > 0).double()

    assert error("nearest_neighbours", step(x), step, x) < 0.8
    assert error("gradient_boosting", step(x), step, x, most_trees=100) < 0.05


def test_a_giant_step_aligns_the_first_layer_with_the_target() -> None:
    x = normal(2000, 20)

    def truth(rows: torch.Tensor) -> torch.Tensor:
        return rows[:, 0].clamp_min(0)

    moved = error("one_giant_step", truth(x), truth, x, width=200, step_size=20.0)
    still = error("one_giant_step", truth(x), truth, x, width=200, step_size=1e-9)
    assert moved < 0.7 * still


def test_stages_find_a_polynomial_of_a_quadratic_form() -> None:
    x = normal(800)

    def truth(rows: torch.Tensor) -> torch.Tensor:
        p = (rows[:, 0] ** 2 - rows[:, 1] ** 2) / 2
        return p + 0.3 * (p**2 - 1)

    staged = error("staged_spectral", truth(x), truth, x)
    plain = error("feature_map_regression", truth(x), truth, x, degree=2)
    assert staged < 0.7 * plain


def test_spectral_directions_are_those_of_a_quadratic_target() -> None:
    x = normal(4000)
    directions, values = spectral_directions(x, x[:, 0] ** 2 - x[:, 1] ** 2, 2)
    assert float(directions[:2].square().sum()) > 1.9
    assert sorted(values.sign().tolist()) == [-1, 1]


def test_lofi_learns_a_composition_and_its_backward_pass_does_not_hurt() -> None:
    x = normal(1000)

    def truth(rows: torch.Tensor) -> torch.Tensor:
        inner = rows[:, 0] * rows[:, 1]
        return inner + 0.3 * (inner**2 - 1)

    forward = error("forward_lofi", truth(x), truth, x, filters=4)
    assert forward < 0.75 * error("feature_map_regression", truth(x), truth, x, degree=2)
    assert forward < 0.75 * error("forward_lofi", truth(x), truth, x, filters=4, layers=1)
    assert error("back_lofi", truth(x), truth, x, filters=4) < 1.5 * forward + 1e-6


@pytest.mark.parametrize("order", [3, 4])
def test_power_iteration_finds_the_components_of_a_moment(order: int) -> None:
    x = normal(20_000)
    he = {3: lambda u: u**3 - 3 * u, 4: lambda u: u**4 - 6 * u**2 + 3}[order]
    y = he(x[:, 0]) - 0.5 * he(x[:, 1])
    directions, values = moment_components(x, y, order, 2, torch.Generator().manual_seed(0))
    assert float(directions[0, 0].square()) > 0.95
    assert float(directions[1, 1].square()) > 0.9
    assert values[0].abs() > values[1].abs()


def test_a_missing_moment_is_said() -> None:
    x = normal(500)
    target = build_worked_example_1(WorkedExample1(kind="worked_example_1"), DIM)
    context = FitContext(3, lambda *_: None, SharedGrams())

    def is_said(y: torch.Tensor) -> bool:
        fitted = fit_baseline(spec("tensor_decomposition", order=3).learner, x, y, target, context)
        return any("no larger than its noise" in warning for warning in fitted.warnings)

    assert is_said(x[:, 0] ** 2 - x[:, 1] ** 2)
    assert not is_said(x[:, 0] ** 3)
