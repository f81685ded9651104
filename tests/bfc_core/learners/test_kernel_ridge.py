"""Kernel ridge as a learner: what it chooses, says, refuses and predicts."""

import pytest
import torch

from bfc_core import kernel_cost
from bfc_core.errors import KernelNotPositiveDefinite, ResourceLimitExceeded
from bfc_core.kernel_cost import kernel_memory_bytes
from bfc_core.learners import kernel_ridge, kernel_solvers
from bfc_core.learners.kernel_ridge import FittedKernel, fit_kernel_ridge
from bfc_core.specs import KernelRidge

DIM = 6


def normal(rows: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, DIM, generator=generator, dtype=torch.float64)


def target(x: torch.Tensor) -> torch.Tensor:
    return 5 + x[:, 0] * x[:, 1] + x[:, 2] ** 2


def fit(n: int = 200, y: torch.Tensor | None = None, **body: object) -> FittedKernel:
    learner = KernelRidge.model_validate({"kind": "kernel_ridge", **body})
    x = normal(n)
    return fit_kernel_ridge(learner, x, target(x) if y is None else y, lambda *_: None, None)


def nmse(fitted: FittedKernel) -> float:
    x = normal(500, seed=1)
    return float((fitted(x) - target(x)).square().mean() / target(x).var())


@pytest.mark.parametrize(
    ("kernel", "most"),
    [
        ({"kind": "polynomial", "degree": 2}, 1e-6),
        ({"kind": "polynomial", "degree": 4}, 1e-2),
        ({"kind": "rbf"}, 0.02),
        ({"kind": "nngp"}, 0.2),
        ({"kind": "ntk", "depth": 2}, 0.2),
        ({"kind": "ntk", "activation": "centred_quadratic", "depth": 1}, 0.02),
    ],
)
def test_every_kernel_learns_a_quadratic(kernel: dict, most: float) -> None:
    assert nmse(fit(kernel=kernel)) <= most


def test_the_quadratic_map_makes_a_linear_kernel_quadratic() -> None:
    kernel = {"kind": "polynomial", "degree": 1}
    x = normal(200)
    squares = x[:, 2] ** 2 - 2 * x[:, 4] ** 2
    fresh = normal(100, seed=1)
    expected = fresh[:, 2] ** 2 - 2 * fresh[:, 4] ** 2
    given = fit(y=squares, kernel=kernel, feature_map="quadratic")
    plain = fit(y=squares, kernel=kernel)
    torch.testing.assert_close(given(fresh), expected, rtol=1e-5, atol=1e-5)
    assert (plain(fresh) - expected).square().mean() > 0.5 * expected.var()


def test_low_rank_and_full_solvers_give_the_same_predictor(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = target(normal(200)) + normal(200, seed=5)[:, 0]
    kernel = {"kind": "polynomial", "degree": 2}
    low_rank = fit(y=noisy, kernel=kernel)
    monkeypatch.setattr(kernel_solvers, "is_solved_by_features", lambda *_: False)
    full = fit(y=noisy, kernel=kernel)
    monkeypatch.setattr(kernel_cost, "EIGENDECOMPOSITION_LIMIT", 100)
    monkeypatch.setattr(kernel_solvers, "EIGENDECOMPOSITION_LIMIT", 100)
    refitted = fit(y=noisy, kernel=kernel)
    solvers = [fitted.selection["solver"] for fitted in (low_rank, full, refitted)]
    assert solvers == ["features", "eigendecomposition", "refits"]
    fresh = normal(700, seed=1)
    for other in (full, refitted):
        assert other.selection["relative_ridge"] == pytest.approx(low_rank.selection["relative_ridge"])
        assert other.selection["loo_mse"] == pytest.approx(low_rank.selection["loo_mse"])
        torch.testing.assert_close(other(fresh), low_rank(fresh), rtol=1e-7, atol=1e-7)


def test_the_bandwidth_is_the_one_with_the_least_leave_one_out_error() -> None:
    noisy = target(normal(150)) + normal(150, seed=5)[:, 0]
    bandwidths = (0.1, 0.7, 1.5, 40.0)
    singles = {b: fit(150, noisy, kernel={"kind": "rbf", "bandwidths": [b]}) for b in bandwidths}
    best = min(bandwidths, key=lambda b: singles[b].selection["loo_mse"])
    chosen = fit(150, noisy, kernel={"kind": "rbf", "bandwidths": bandwidths})
    assert chosen.selection["bandwidth"] == best
    assert chosen.selection["loo_mse"] == pytest.approx(singles[best].selection["loo_mse"])


def test_edges_of_the_grids_are_flagged_and_warned_of_in_words() -> None:
    noise = normal(80, seed=9)[:, 0]
    fitted = fit(80, noise, kernel={"kind": "polynomial", "degree": 2}, ridges=[1e-6, 1e-4])
    assert fitted.selection["at_edge"] is True
    assert any("largest ridge of the grid" in warning for warning in fitted.warnings)
    fitted = fit(80, kernel={"kind": "rbf", "bandwidths": [0.05, 0.1]})
    assert fitted.selection["bandwidth_at_edge"] is True
    assert any("bandwidth, 0.1," in warning for warning in fitted.warnings)
    inner = fit(kernel={"kind": "ntk"}, y=target(normal(200)) + normal(200, seed=5)[:, 0])
    assert inner.selection["at_edge"] is False
    assert inner.warnings == ()


def test_more_memory_than_allowed_is_refused_before_any_of_it_is_taken() -> None:
    n = 1_000_000
    learner = KernelRidge.model_validate({"kind": "kernel_ridge", "kernel": {"kind": "rbf"}})
    # An expanded row takes no memory itself, and no machine of today would hold the 7 TiB of its gram.
    x, called = torch.zeros(1, DIM, dtype=torch.float64).expand(n, DIM), []
    with pytest.raises(ResourceLimitExceeded, match="1000000 samples") as refusal:
        fit_kernel_ridge(learner, x, x[:, 0], lambda *counts: called.append(counts), 2**40)
    assert refusal.value.needed_bytes == kernel_memory_bytes(n, test_samples=0) > 2**40
    assert called == []


def test_exactly_the_planned_memory_is_accepted() -> None:
    learner = KernelRidge.model_validate({"kind": "kernel_ridge", "kernel": {"kind": "polynomial"}})
    x = normal(50)
    fitted = fit_kernel_ridge(learner, x, target(x), lambda *_: None, kernel_memory_bytes(50, 0))
    assert fitted(x).shape == (50,)


@pytest.mark.parametrize("limit", [2000, 100])
def test_progress_is_monotonic_ends_complete_and_may_stop_the_fit(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (kernel_cost, kernel_ridge, kernel_solvers):
        monkeypatch.setattr(module, "EIGENDECOMPOSITION_LIMIT", limit)
    learner = KernelRidge.model_validate({"kind": "kernel_ridge", "kernel": {"kind": "rbf"}})
    x, counts = normal(200), []
    fit_kernel_ridge(learner, x, target(x), lambda *count: counts.append(count), None)
    done, expected = zip(*counts, strict=True)
    assert list(done) == sorted(done)
    assert len(set(expected)) == 1
    assert done[0] == 0
    assert done[-1] == expected[-1]

    def stop_after_two(solved: int, expected: int) -> None:
        if solved == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit_kernel_ridge(learner, x, target(x), stop_after_two, None)


def test_the_same_samples_give_the_same_numbers_in_any_precision_of_input() -> None:
    fresh = normal(50, seed=3)
    kernel = {"kind": "ntk"}
    assert torch.equal(fit(kernel=kernel)(fresh), fit(kernel=kernel)(fresh))
    learner = KernelRidge.model_validate({"kind": "kernel_ridge", "kernel": kernel})
    x = normal(64).float()
    fitted = fit_kernel_ridge(learner, x, target(x), lambda *_: None, None)
    assert fitted(fresh.float()).dtype == torch.float64


def test_a_constant_target_is_predicted_exactly() -> None:
    fitted = fit(40, torch.full((40,), 3.5, dtype=torch.float64), kernel={"kind": "rbf"})
    torch.testing.assert_close(fitted(normal(5, seed=2)), torch.full((5,), 3.5, dtype=torch.float64))


def test_approximate_solvers_come_near_the_exact_one_and_say_what_they_did() -> None:
    noisy = target(normal(200)) + 0.3 * normal(200, seed=5)[:, 0]
    kernel = {"kind": "rbf", "bandwidths": [2.0]}
    exact = fit(y=noisy, kernel=kernel)
    nystrom = fit(y=noisy, kernel=kernel, solver="nystrom", centres=150)
    assert nystrom.selection["solver"] == "nystrom"
    assert nystrom.selection["centres"] == 150
    assert nystrom.anchors.shape == (150, DIM)
    assert nmse(nystrom) < 1.3 * nmse(exact)
    iterative = fit(y=noisy, kernel=kernel, solver="iterative", centres=150)
    assert iterative.selection["residual"] < 1e-8
    fresh = normal(50, seed=1)
    same_ridge = fit(y=noisy, kernel=kernel, ridges=[iterative.selection["relative_ridge"]])
    torch.testing.assert_close(iterative(fresh), same_ridge(fresh), rtol=1e-6, atol=1e-6)


def test_mixed_precision_agrees_or_says_that_it_could_not() -> None:
    noisy = target(normal(200)) + normal(200, seed=5)[:, 0]
    mixed = fit(y=noisy, kernel={"kind": "ntk"}, precision="mixed")
    exact = fit(y=noisy, kernel={"kind": "ntk"})
    assert mixed.selection["precision"] == "mixed"
    fresh = normal(50, seed=1)
    assert mixed.selection["relative_ridge"] == pytest.approx(exact.selection["relative_ridge"], rel=1e-5)
    torch.testing.assert_close(mixed(fresh), exact(fresh), rtol=1e-5, atol=1e-5)
    smooth = {"kernel": {"kind": "rbf", "bandwidths": [8.0]}, "ridges": [1e-9, 1e-8]}
    beyond = fit(precision="mixed", **smooth)
    assert beyond.selection["precision"] == "float64"
    assert any("solved in float64" in warning for warning in beyond.warnings)
    torch.testing.assert_close(beyond(fresh), fit(**smooth)(fresh))


def test_the_ridge_may_be_chosen_by_generalised_cross_validation() -> None:
    noisy = target(normal(200)) + normal(200, seed=5)[:, 0]
    fitted = fit(y=noisy, kernel={"kind": "rbf"}, criterion="gcv")
    grid = [10.0**power for power in range(-4, 2)]
    errors = {
        ridge: fit(
            y=noisy,
            kernel={"kind": "rbf", "bandwidths": [fitted.selection["bandwidth"]]},
            ridges=[ridge],
        ).selection["gcv"]
        for ridge in grid
    }
    assert fitted.selection["gcv"] <= 1.01 * min(errors.values())


def test_a_few_ridges_are_refitted_and_give_the_eigendecompositions_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernel_cost, "SMALL", 100)
    noisy = target(normal(200)) + normal(200, seed=5)[:, 0]
    few = fit(y=noisy, kernel={"kind": "ntk"}, ridges=[1e-3, 1e-1])
    monkeypatch.setattr(kernel_cost, "FEW_RIDGES", 1)
    whole = fit(y=noisy, kernel={"kind": "ntk"}, ridges=[1e-3, 1e-1])
    assert (few.selection["solver"], whole.selection["solver"]) == ("refits", "eigendecomposition")
    fresh = normal(50, seed=1)
    torch.testing.assert_close(few(fresh), whole(fresh), rtol=1e-8, atol=1e-8)


def test_compound_kernels_name_every_bandwidth_they_chose() -> None:
    kernel = {
        "kind": "sum",
        "terms": [{"kind": "rbf", "bandwidths": [0.5, 2.0]}, {"kind": "laplace", "bandwidths": [10.0]}],
    }
    fitted = fit(80, kernel=kernel)
    assert fitted.selection["terms.0.bandwidth"] in {0.5, 2.0}
    assert fitted.selection["terms.1.bandwidth"] == 10.0


SOLVERS = [
    {"solver": "exact"},
    {"solver": "exact", "precision": "mixed"},
    {"solver": "exact", "ridges": [1e-3]},
    {"solver": "nystrom"},
    {"solver": "iterative"},
]
each_solver = pytest.mark.parametrize("solver", SOLVERS, ids=lambda body: "-".join(map(str, body.values())))


@each_solver
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_values_that_are_not_finite_are_refused_before_any_work(solver: dict, bad: float) -> None:
    learner = KernelRidge.model_validate({"kind": "kernel_ridge", "kernel": {"kind": "ntk"}, **solver})
    for of_inputs in (True, False):
        x, called = normal(30), []
        y = target(x)
        (x if of_inputs else y)[7] = bad
        with pytest.raises(
            KernelNotPositiveDefinite, match=f"the {'inputs' if of_inputs else 'targets'} hold"
        ):
            fit_kernel_ridge(learner, x, y, lambda *counts, called=called: called.append(counts), None)
        assert called == []


@each_solver
def test_a_kernel_that_is_zero_on_every_sample_leaves_the_mean_or_is_refused_in_words(solver: dict) -> None:
    kernel = {"kind": "polynomial", "degree": 1, "offset": 0}
    learner = KernelRidge.model_validate({"kind": "kernel_ridge", "kernel": kernel, **solver})
    x, y = torch.zeros(400, DIM, dtype=torch.float64), normal(400)[:, 0]
    if solver.get("solver", "exact") == "exact":
        fitted = fit_kernel_ridge(learner, x, y, lambda *_: None, None)
        assert fitted(normal(5)).tolist() == pytest.approx([float(y.mean())] * 5, rel=1e-12)
    else:
        with pytest.raises(KernelNotPositiveDefinite, match="zero on every sample"):
            fit_kernel_ridge(learner, x, y, lambda *_: None, None)
    with pytest.raises(KernelNotPositiveDefinite, match="two samples"):
        fit_kernel_ridge(learner, normal(1), normal(1)[:, 0], lambda *_: None, None)


@each_solver
@pytest.mark.parametrize("n", [2, 3, 8])
def test_very_few_samples_are_fitted(solver: dict, n: int) -> None:
    fitted = fit(n, kernel={"kind": "rbf", "bandwidths": [1.0]}, **solver)
    assert fitted(normal(5, seed=1)).isfinite().all()
    assert fitted(normal(5, seed=1)[:0]).shape == (0,)


@each_solver
@pytest.mark.parametrize("shift", [0.0, 1e9])
def test_a_large_mean_of_the_targets_costs_no_digits(solver: dict, shift: float) -> None:
    """Also where they are rounded to float32 on the way."""
    x = normal(150)
    noisy = target(x) + normal(150, seed=5)[:, 0]
    plain, shifted = (fit(150, noisy + by, kernel={"kind": "ntk"}, **solver) for by in (0.0, shift))
    assert shifted.selection["relative_ridge"] == pytest.approx(plain.selection["relative_ridge"], rel=1e-6)
    assert shifted.selection["loo_mse"] == pytest.approx(plain.selection["loo_mse"], rel=1e-4)
    fresh = normal(20, seed=1)
    torch.testing.assert_close(shifted(fresh) - shift, plain(fresh), rtol=1e-5, atol=1e-5)


@each_solver
def test_equal_rows_are_one_row_seen_more_often(solver: dict) -> None:
    x = normal(1).expand(80, DIM)
    y = normal(80, seed=5)[:, 0]
    learner = KernelRidge.model_validate(
        {"kind": "kernel_ridge", "kernel": {"kind": "ntk"}, **solver, "ridges": [1e-3, 1e-2]}
    )
    fitted = fit_kernel_ridge(learner, x, y, lambda *_: None, None)
    # One direction with eigenvalue n k: of centred targets it sees nothing.
    torch.testing.assert_close(fitted(x[:1]), y.mean()[None], rtol=1e-6, atol=1e-6)


def test_a_ridge_that_float32_cannot_hold_is_not_taken_for_zero() -> None:
    fitted = fit(40, kernel={"kind": "rbf", "bandwidths": [0.5]}, precision="mixed", ridges=[1e-60])
    assert fitted.selection["relative_ridge"] == pytest.approx(1e-60)
    assert fitted.selection["precision"] == "float64"
    assert any("float32" in warning for warning in fitted.warnings)


@pytest.mark.parametrize("factor", [1e-150, 1e150])
def test_inputs_of_any_size_are_fitted_by_a_homogeneous_kernel(factor: float) -> None:
    """The NTK of ReLUs without a bias scales with its inputs, and relative ridges with it."""
    x = normal(60)
    learner = KernelRidge.model_validate(
        {"kind": "kernel_ridge", "kernel": {"kind": "ntk", "bias_variance": 0}, "criterion": "gcv"}
    )
    plain, scaled = (
        fit_kernel_ridge(learner, f * x, target(x), lambda *_: None, None) for f in (1.0, factor)
    )
    fresh = normal(20, seed=1)
    assert scaled.selection["gcv"] == pytest.approx(plain.selection["gcv"])
    torch.testing.assert_close(scaled(factor * fresh), plain(fresh), rtol=1e-6, atol=1e-6)


def test_unsorted_and_repeated_ridges_are_a_grid_like_any_other() -> None:
    noisy = target(normal(200)) + normal(200, seed=5)[:, 0]
    kernel = {"kind": "ntk"}
    sorted_grid = fit(y=noisy, kernel=kernel, ridges=[1e-4, 1e-3, 1e-2, 1e-1, 1])
    shuffled = fit(y=noisy, kernel=kernel, ridges=[1e-1, 1e-4, 1e-2, 1, 1e-3, 1e-2, 1e-4])
    fresh = normal(20, seed=1)
    assert shuffled.selection["relative_ridge"] == pytest.approx(sorted_grid.selection["relative_ridge"])
    torch.testing.assert_close(shuffled(fresh), sorted_grid(fresh), rtol=1e-10, atol=1e-10)
