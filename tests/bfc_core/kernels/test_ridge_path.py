"""Ridge regression: three solvers, one answer, and that answer against brute force and scikit-learn."""

import pytest
import torch
from sklearn.kernel_ridge import KernelRidge as ScikitKernelRidge

from bfc_core.errors import KernelNotPositiveDefinite
from bfc_core.kernels import refits
from bfc_core.kernels.cholesky import (
    factor_in_place,
    factor_with_jitter,
    inverse_diagonal,
    restore_in_place,
    solve_with_factor,
)
from bfc_core.kernels.polynomial import PolynomialKernel
from bfc_core.kernels.rbf import RbfKernel
from bfc_core.kernels.refits import solve_by_refits, solve_each, subsample_rows
from bfc_core.kernels.ridge import (
    DEFAULT_RIDGES,
    TOLERANCE,
    RidgeSolution,
    absolute_ridges,
    best_ridge,
    solve_by_eigendecomposition,
    solve_by_features,
)

DIM = 5


def problem(n: int = 60, noise: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and two targets of very different size, both far from centred."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(n, DIM, generator=generator, dtype=torch.float64)
    clean = torch.stack([3 + x[:, 0] * x[:, 1] + x[:, 2], -40 + 10 * torch.sin(x[:, 3])], dim=1)
    return x, clean + noise * torch.randn(n, 2, generator=generator, dtype=torch.float64)


def grid(gram: torch.Tensor) -> torch.Tensor:
    return absolute_ridges(None, float(gram.diagonal().mean()), gram)


def eigen_solution(kernel, x: torch.Tensor, y: torch.Tensor) -> RidgeSolution:
    gram = kernel.gram(x)
    return solve_by_eigendecomposition(gram, y, grid(gram))


def test_leave_one_out_is_what_refitting_without_each_sample_gives() -> None:
    x, y = problem(25)
    kernel = RbfKernel(1.0)
    ridges = torch.tensor([1e-3, 0.1, 3.0], dtype=torch.float64)
    solution = solve_by_eigendecomposition(kernel.gram(x), y, ridges)
    for ridge, errors in zip(ridges, solution.loo_mse, strict=True):
        squares = []
        for left_out in range(25):
            kept = torch.arange(25) != left_out
            mean = y[kept].mean(0)
            system = kernel.gram(x[kept]) + ridge * torch.eye(24, dtype=torch.float64)
            weights = torch.linalg.solve(system, y[kept] - mean)
            predicted = kernel.gram(x[[left_out]], x[kept]) @ weights + mean
            squares.append((predicted[0] - y[left_out]).square())
        torch.testing.assert_close(errors, torch.stack(squares).mean(0), rtol=1e-9, atol=0)


@pytest.mark.parametrize("ridge", [1e-4, 1e-2, 1.0])
def test_every_ridge_agrees_with_scikit_learn(ridge: float) -> None:
    x, y = problem()
    fresh = problem(80)[0][60:]
    kernel = PolynomialKernel(3, 1.0)
    solution = solve_by_eigendecomposition(kernel.gram(x), y, torch.tensor([ridge], dtype=torch.float64))
    oracle = ScikitKernelRidge(alpha=ridge, kernel="polynomial", degree=3, gamma=1 / DIM, coef0=1.0)
    oracle.fit(x.numpy(), (y - y.mean(0)).numpy())
    expected = torch.from_numpy(oracle.predict(fresh.numpy())) + y.mean(0)
    predicted = kernel.gram(fresh, x) @ solution.weights + solution.intercept
    torch.testing.assert_close(predicted, expected, rtol=1e-8, atol=1e-8)


def test_feature_path_is_the_gram_path() -> None:
    x, y = problem(90)
    kernel = PolynomialKernel(2, 1.0)
    gram = kernel.gram(x)
    whole = solve_by_eigendecomposition(gram, y, grid(gram))
    short = solve_by_features(kernel.features(x), y, grid(gram))
    assert short.chosen == whole.chosen
    # Smaller ridges than these drown in the rounding of the gram, where both paths are equally uncertain.
    resolved = grid(gram) > 1e-8 * gram.diagonal().mean()
    torch.testing.assert_close(short.loo_mse[resolved], whole.loo_mse[resolved], rtol=1e-6, atol=0)
    fresh = problem(120)[0][90:]
    torch.testing.assert_close(
        kernel.features(fresh) @ short.weights, kernel.gram(fresh, x) @ whole.weights, rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("noise", [0.0, 0.3, 5.0])
@pytest.mark.parametrize("kernel", [RbfKernel(1.0), RbfKernel(4.0), PolynomialKernel(4, 1.0)])
def test_refits_choose_what_the_eigendecomposition_chooses(
    kernel, noise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refits, "SUBSAMPLE", 50)
    x, y = problem(220, noise)
    whole = eigen_solution(kernel, x, y)
    solved = []
    short = solve_by_refits(kernel, x, y, None, lambda: solved.append(1))
    # One step of the grid apart is allowed where the error is flat; then both errors are equal to the eye.
    assert all(abs(a - b) <= 1 for a, b in zip(short.chosen, whole.chosen, strict=True))
    for target, index in enumerate(short.chosen):
        assert short.loo_mse[index, target] <= whole.loo_mse[:, target].nan_to_num(torch.inf).min() * 1.003
    evaluated = ~short.loo_mse.isnan() & (whole.ridges > 1e-6 * whole.ridges.median())[:, None]
    torch.testing.assert_close(short.loo_mse[evaluated], whole.loo_mse[evaluated], rtol=1e-5, atol=0)
    if short.chosen == whole.chosen:
        torch.testing.assert_close(
            kernel.gram(x) @ short.weights, kernel.gram(x) @ whole.weights, rtol=1e-6, atol=1e-6
        )
    assert len(solved) < len(DEFAULT_RIDGES)


def test_refits_recover_from_ridges_too_small_for_the_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refits, "SUBSAMPLE", 20)
    x, y = problem(100)
    duplicated = torch.cat([x, x])
    kernel = PolynomialKernel(1, 1.0)
    relative = (1e-19, 1e-18, 1e-2)
    solution = solve_by_refits(kernel, duplicated, torch.cat([y, y]), relative, lambda: None)
    assert solution.chosen == (2, 2)
    with pytest.raises(KernelNotPositiveDefinite, match="no ridge"):
        solve_by_refits(kernel, duplicated, torch.cat([y, y]), relative[:2], lambda: None)


def test_an_optimum_at_the_end_of_the_grid_is_flagged() -> None:
    x, y = problem()
    gram = RbfKernel(1.0).gram(x)

    def at_edge(*ridges: float) -> bool:
        return solve_by_eigendecomposition(gram, y[:, :1], torch.tensor(ridges, dtype=torch.float64)).at_edge(
            0
        )

    inner = float(
        solve_by_eigendecomposition(gram, y[:, :1], grid(gram)).ridges[
            solve_by_eigendecomposition(gram, y[:, :1], grid(gram)).chosen[0]
        ]
    )
    assert not at_edge(inner / 100, inner, inner * 100)
    assert at_edge(inner, inner * 100)
    assert at_edge(inner / 1e6, inner / 100)
    assert not at_edge(inner), "a single ridge leaves no choice"


def test_the_largest_of_equal_ridges_wins_and_nan_never_does() -> None:
    errors = torch.tensor([1.0, 1.0 + TOLERANCE / 2, 1.0 + 3 * TOLERANCE, torch.nan], dtype=torch.float64)
    assert best_ridge(errors) == 1
    with pytest.raises(KernelNotPositiveDefinite, match="finite"):
        best_ridge(torch.full((3,), torch.nan))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_grams_and_targets_that_are_not_finite_are_refused_in_words(bad: float) -> None:
    x, y = problem(20)
    gram = RbfKernel(1.0).gram(x)
    with pytest.raises(KernelNotPositiveDefinite, match="finite"):
        solve_by_eigendecomposition(gram * bad, y, grid(gram))
    with pytest.raises(KernelNotPositiveDefinite, match="finite"):
        solve_by_features(x * bad, y, grid(gram))
    with pytest.raises(KernelNotPositiveDefinite, match="finite"):
        solve_by_eigendecomposition(gram, y * bad, grid(gram))


def test_subsample_rows_are_distinct_and_span_the_samples() -> None:
    rows = subsample_rows(2001, 1000)
    assert len(set(rows.tolist())) == 1000
    assert rows[0] == 0
    assert rows[-1] >= 1998


def test_factor_in_place_is_the_lower_factor_in_the_same_memory() -> None:
    x, _ = problem(530)
    matrix = RbfKernel(1.0).gram(x)
    matrix.diagonal().add_(0.1)
    expected = torch.linalg.cholesky(matrix)
    inverse = torch.linalg.inv(matrix)
    right_hand_sides = x.clone()
    address = matrix.data_ptr()
    factor = factor_in_place(matrix)
    assert factor.data_ptr() == address
    torch.testing.assert_close(factor.tril(), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(inverse_diagonal(factor), inverse.diagonal(), rtol=1e-9, atol=0)
    torch.testing.assert_close(
        solve_with_factor(factor, right_hand_sides), inverse @ right_hand_sides, rtol=1e-8, atol=1e-8
    )


def test_an_indefinite_matrix_has_no_factor() -> None:
    with pytest.raises(KernelNotPositiveDefinite, match="larger ridge"):
        factor_in_place(-torch.eye(3, dtype=torch.float64))


def test_a_factor_leaves_the_upper_triangle_and_is_undone_by_it() -> None:
    x, _ = problem(530)
    gram = RbfKernel(1.0).gram(x)
    matrix, advanced = gram.clone(), []
    matrix.diagonal().add_(0.1)
    factor_in_place(matrix, lambda: advanced.append(1))
    assert len(advanced) == 3
    assert torch.equal(matrix.triu(1), gram.triu(1))
    assert torch.equal(restore_in_place(matrix, gram.diagonal()), gram)


def test_a_singular_gram_is_rebuilt_with_the_least_jitter_that_helps() -> None:
    x, _ = problem(200)
    gram = PolynomialKernel(1, 1.0).gram(x)
    factor, jitter = factor_with_jitter(gram.clone())
    assert 0 < jitter <= 1e-10 * float(gram.diagonal().mean())
    lower = factor.tril()
    expected = gram + jitter * torch.eye(200, dtype=torch.float64)
    torch.testing.assert_close(lower @ lower.mT, expected, rtol=0, atol=1e-12)
    assert factor_with_jitter(gram + torch.eye(200, dtype=torch.float64))[1] == 0
    with pytest.raises(KernelNotPositiveDefinite, match="larger ridge"):
        factor_with_jitter(torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64)))


def test_generalised_cross_validation_is_its_definition() -> None:
    """n ‖(I − S) y‖² / tr(I − S)², S from fitting unit vectors, with and without centring."""
    x, y = problem(30)
    gram = RbfKernel(1.0).gram(x)
    ridges = torch.tensor([1e-2, 0.5], dtype=torch.float64)
    identity = torch.eye(30, dtype=torch.float64)
    for intercept in (True, False):
        solution = solve_by_eigendecomposition(gram, y, ridges, intercept=intercept)
        for ridge, found in zip(ridges, solution.gcv, strict=True):
            centre = identity - intercept / 30
            smoother = identity - ridge * torch.linalg.inv(gram + ridge * identity) @ centre
            left = (identity - smoother) @ y
            expected = 30 * left.square().sum(0) / (30 - smoother.diagonal().sum()).square()
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("criterion", ["leave_one_out", "gcv"])
def test_refits_one_by_one_are_the_path(criterion: str) -> None:
    x, y = problem(90)
    gram = RbfKernel(1.0).gram(x)
    whole = solve_by_eigendecomposition(
        gram, y, torch.tensor([1e-3, 0.1, 1.0], dtype=torch.float64), criterion
    )
    single = solve_each(gram.clone(), y, [1e-3, 1.0, 0.1], lambda: None, criterion)
    assert single.chosen == whole.chosen
    for name in ("loo_mse", "gcv", "weights", "ridges"):
        torch.testing.assert_close(getattr(single, name), getattr(whole, name), rtol=1e-8, atol=1e-10)
    assert single.jitter == 0


def test_a_failed_factor_leaves_the_way_back_in_every_block() -> None:
    """Where a later block of columns fails, the upper triangle, that block's too, is still the matrix."""
    x, _ = problem(300)
    matrix = RbfKernel(1.0).gram(torch.cat([x, x]))
    copy = matrix.clone()
    with pytest.raises(KernelNotPositiveDefinite, match=r"row (19[3-9]|[2-9]\d\d)"):
        factor_in_place(matrix)
    assert torch.equal(matrix.triu(1), copy.triu(1))
    factor, jitter = factor_with_jitter(copy.clone())
    assert 0 < jitter <= 1e-10
    torch.testing.assert_close(factor.tril() @ factor.tril().mT, copy, rtol=0, atol=1e-9)


def test_a_ridge_after_one_that_could_not_be_solved_for_sees_the_same_gram() -> None:
    x, y = problem(300)
    twice, targets = torch.cat([x, x]), torch.cat([y, y])
    gram = RbfKernel(1.0).gram(twice)
    alone = solve_each(gram.clone(), targets, [1e-1], lambda: None)
    after = solve_each(gram.clone(), targets, [1e-20, 1e-19, 1e-1], lambda: None)
    assert after.loo_mse[:2].isinf().all()
    assert after.chosen == (2, 2)
    torch.testing.assert_close(after.weights, alone.weights, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(after.loo_mse[2], alone.loo_mse[0], rtol=1e-12, atol=0)
    system = gram + 0.1 * torch.eye(600, dtype=torch.float64)
    expected = torch.linalg.solve(system, targets - targets.mean(0))
    torch.testing.assert_close(after.weights, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("size", [1e-290, 1e290])
@pytest.mark.parametrize("solve", ["eigendecomposition", "features", "refits"])
def test_both_criteria_are_blind_to_the_size_of_the_gram(solve: str, size: float) -> None:
    x, y = problem(40)
    kernel, relative = PolynomialKernel(2, 1.0), [1e-3, 0.1, 1.0]

    def solved(factor: float) -> RidgeSolution:
        gram = kernel.gram(x) * factor
        ridges = absolute_ridges(relative, float(gram.diagonal().mean()), gram)
        if solve == "features":
            return solve_by_features(kernel.features(x) * factor**0.5, y, ridges)
        if solve == "refits":
            return solve_each(gram, y, relative, lambda: None)
        return solve_by_eigendecomposition(gram, y, ridges)

    plain, scaled = solved(1.0), solved(size)
    torch.testing.assert_close(scaled.loo_mse, plain.loo_mse, rtol=1e-8, atol=0)
    torch.testing.assert_close(scaled.gcv, plain.gcv, rtol=1e-8, atol=0)
    assert scaled.chosen == plain.chosen


def test_ridges_of_a_gram_that_is_zero_are_relative_to_one() -> None:
    gram = torch.zeros(4, 4, dtype=torch.float64)
    ridges = absolute_ridges([1e-3, 10.0], float(gram.diagonal().mean()), gram)
    assert ridges.tolist() == [1e-3, 10.0]


def test_a_ridge_too_small_to_solve_for_is_helped_by_a_reported_jitter() -> None:
    x, y = problem(60)
    gram = PolynomialKernel(1, 1.0).gram(torch.cat([x, x]))
    solution = solve_each(gram, torch.cat([y, y]), [1e-19], lambda: None)
    assert solution.jitter > 0
    assert solution.weights.isfinite().all()


def test_many_targets_at_once_are_each_target_alone() -> None:
    x, y = problem(50)
    many = torch.cat([y + shift * x[:, :1] for shift in range(5)], dim=1)
    gram = RbfKernel(1.0).gram(x)
    together = solve_by_eigendecomposition(gram, many, grid(gram))
    for target in range(10):
        alone = solve_by_eigendecomposition(gram, many[:, [target]], grid(gram))
        assert alone.chosen[0] == together.chosen[target]
        torch.testing.assert_close(together.loo_mse[:, target], alone.loo_mse[:, 0], rtol=1e-9, atol=0)
        torch.testing.assert_close(together.weights[:, [target]], alone.weights, rtol=1e-9, atol=1e-12)
