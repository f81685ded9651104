"""Solvers that do without the whole gram, or without float64, against the solver that has both."""

import threading
from collections.abc import Iterator

import pytest
import torch

from bfc_core.errors import KernelNotPositiveDefinite
from bfc_core.kernels import iterative
from bfc_core.kernels.base import Kernel
from bfc_core.kernels.iterative import (
    NystromPreconditioner,
    solve_by_conjugate_gradients,
    symmetric_gram_times,
)
from bfc_core.kernels.laplace import LaplaceKernel
from bfc_core.kernels.nystrom import ROWS, NystromFeatures
from bfc_core.kernels.rbf import RbfKernel
from bfc_core.kernels.refinement import solve_refined
from bfc_core.kernels.ridge import solve_by_eigendecomposition, solve_by_feature_blocks

DIM = 5


def normal(rows: int, columns: int = DIM, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def targets(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([3 + x[:, 0] * x[:, 1], torch.sin(x[:, 2])], dim=1) + 0.1 * normal(len(x), 2, seed=4)


def test_all_samples_as_centres_give_the_exact_path() -> None:
    x, kernel = normal(120), RbfKernel(1.0)
    ridges = torch.tensor([1e-3, 0.1, 1.0], dtype=torch.float64)
    exact = solve_by_eigendecomposition(kernel.gram(x), targets(x), ridges)
    features = NystromFeatures.of(kernel, x)
    found = solve_by_feature_blocks(lambda: features.blocks(x, lambda: None), targets(x), ridges)
    torch.testing.assert_close(found.loo_mse, exact.loo_mse, rtol=1e-7, atol=0)
    torch.testing.assert_close(found.gcv, exact.gcv, rtol=1e-7, atol=0)
    assert found.chosen == exact.chosen
    fresh = normal(9, seed=1)
    torch.testing.assert_close(
        kernel.gram(fresh, x) @ features.weights_of_centres(found.weights),
        kernel.gram(fresh, x) @ exact.weights,
        rtol=1e-7,
        atol=1e-7,
    )


def test_where_all_samples_are_centres_rounding_wins_no_ridge() -> None:
    """1 − leverage is a difference there: below its rounding the quotient is chance, in both criteria."""
    x, y = normal(60, 4), normal(60, 40, seed=5)
    relative = [10.0**-power for power in range(20, 0, -1)]
    ridges = torch.tensor(relative, dtype=torch.float64)
    for kernel in (RbfKernel(0.05), LaplaceKernel(1.0)):
        features = NystromFeatures.of(kernel, x)
        for criterion in ("leave_one_out", "gcv"):
            found = solve_by_feature_blocks(
                lambda features=features: features.blocks(x, lambda: None), y, ridges, criterion
            )
            exact = solve_by_eigendecomposition(kernel.gram(x), y, ridges, criterion)
            assert found.chosen == exact.chosen
    single = solve_by_feature_blocks(lambda: features.blocks(x, lambda: None), y, ridges[:1])
    assert set(single.chosen) == {0}, "a single ridge leaves no choice"


def test_centres_that_are_not_finite_are_refused_in_words() -> None:
    with pytest.raises(KernelNotPositiveDefinite, match="not finite"):
        NystromFeatures.of(RbfKernel(1.0), torch.full((4, DIM), torch.nan, dtype=torch.float64))


def test_nystrom_features_reproduce_the_kernel_of_the_centres_and_no_more() -> None:
    x, kernel = normal(60), RbfKernel(1.0)
    features = NystromFeatures.of(kernel, x[:20])
    phi = features(x)
    torch.testing.assert_close(phi[:20] @ phi.mT, kernel.gram(x[:20], x), rtol=1e-8, atol=1e-8)
    left = torch.linalg.eigvalsh(kernel.gram(x) - phi @ phi.mT)
    assert left[0] > -1e-9


def test_features_in_blocks_are_the_features_at_once() -> None:
    x = normal(ROWS + 30)
    features = NystromFeatures.of(RbfKernel(2.0), x[:10])
    alive = []
    blocks = list(features.blocks(x, lambda: alive.append(1)))
    assert [len(block) for block in blocks] == [ROWS, 30]
    assert len(alive) == 2
    torch.testing.assert_close(features.matrix(x, lambda: None), features(x))
    y = targets(x)
    ridges = torch.tensor([0.1, 1.0], dtype=torch.float64)
    at_once = solve_by_feature_blocks(lambda: [features(x)], y, ridges)
    in_blocks = solve_by_feature_blocks(lambda: features.blocks(x, lambda: None), y, ridges)
    torch.testing.assert_close(in_blocks.loo_mse, at_once.loo_mse, rtol=1e-10, atol=0)
    torch.testing.assert_close(in_blocks.gcv, at_once.gcv, rtol=1e-10, atol=0)


def test_coincident_centres_are_met_with_a_reported_jitter() -> None:
    x = normal(20)
    features = NystromFeatures.of(RbfKernel(1.0), torch.cat([x, x]))
    assert 0 < features.jitter < 1e-8
    assert features(x).isfinite().all()


def test_gram_products_in_blocks_are_those_of_the_gram() -> None:
    x, vectors, kernel = normal(1100), normal(1100, 2, seed=2), RbfKernel(1.0)
    called = []
    product = symmetric_gram_times(kernel, x, vectors, lambda: called.append(1))
    torch.testing.assert_close(product, kernel.gram(x) @ vectors, rtol=1e-10, atol=1e-10)
    assert called


@pytest.mark.parametrize(
    ("kernel", "offset"),
    [(RbfKernel(1.0), 0.0), (RbfKernel(1.0), 1e4), (RbfKernel(1e-4), 0.0), (LaplaceKernel(1.0), 0.0)],
    ids=["rbf", "far from the origin", "a bandwidth below the distances", "laplace"],
)
def test_blocks_by_slices_are_the_blocks_of_the_rows(kernel: Kernel, offset: float) -> None:
    """Also those at the edges, which are smaller than the ones before them."""
    x = normal(40) + offset
    block_of = kernel.blocks_of(x)
    for rows, columns in (
        (slice(0, 16), slice(0, 16)),
        (slice(32, 48), slice(0, 16)),
        (slice(16, 32), slice(0, 16)),
    ):
        found = block_of(rows, columns)
        torch.testing.assert_close(found, kernel.block(x[rows], x[columns]), rtol=1e-10, atol=1e-12)
    assert found.shape == (16, 16)


def test_gram_products_of_rounded_rows_are_summed_in_the_precision_of_the_vectors() -> None:
    x, vectors, kernel = normal(1600), normal(1600, 1, seed=2), RbfKernel(1.0)
    product = symmetric_gram_times(kernel, x.float(), vectors)
    assert product.dtype == torch.float64
    exact = kernel.gram(x) @ vectors
    assert float((product - exact).norm() / exact.norm()) < 1e-6


@pytest.fixture(params=[2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_gram_products_are_those_of_the_gram_on_several_threads(threads: int) -> None:
    x, vectors, kernel = normal(2100), normal(2100, 2, seed=2), RbfKernel(1.0)
    product = symmetric_gram_times(kernel, x, vectors)
    torch.testing.assert_close(product, kernel.gram(x) @ vectors, rtol=1e-10, atol=1e-10)
    assert torch.get_num_threads() == threads


def test_a_stopped_gram_product_gives_its_threads_back(threads: int) -> None:
    def stop() -> None:
        raise InterruptedError("cancelled")

    before = threading.active_count()
    with pytest.raises(InterruptedError, match="cancelled"):
        symmetric_gram_times(RbfKernel(1.0), normal(2100), normal(2100, 1), stop)
    assert torch.get_num_threads() == threads
    assert threading.active_count() == before


@pytest.mark.parametrize("centres", [10, 80])
def test_conjugate_gradients_find_the_exact_coefficients(centres: int) -> None:
    x, kernel, ridge = normal(150), RbfKernel(1.0), 0.05
    system = kernel.gram(x) + ridge * torch.eye(150, dtype=torch.float64)
    exact = torch.linalg.solve(system, targets(x))
    features = NystromFeatures.of(kernel, x[:centres])
    precondition = NystromPreconditioner.of(features(x), ridge)
    found = solve_by_conjugate_gradients(
        lambda v: system @ v, targets(x), precondition, torch.zeros_like(exact), 1e-10, 200
    )
    assert found.residual <= 1e-10
    torch.testing.assert_close(found.coefficients, exact, rtol=1e-7, atol=1e-7)


def test_more_centres_need_fewer_steps() -> None:
    x, kernel, ridge = normal(300), RbfKernel(1.5), 0.01
    system = kernel.gram(x) + ridge * torch.eye(300, dtype=torch.float64)

    def steps(precondition) -> int:
        zero = torch.zeros(300, 2, dtype=torch.float64)
        return solve_by_conjugate_gradients(
            lambda v: system @ v, targets(x), precondition, zero, 1e-8, 1000
        ).steps

    by_centres = [
        steps(NystromPreconditioner.of(NystromFeatures.of(kernel, x[:r])(x), ridge)) for r in (20, 200)
    ]
    assert by_centres[1] < by_centres[0] < steps(lambda r: r)


def test_the_preconditioner_is_symmetric_positive_definite() -> None:
    x = normal(40)
    features = NystromFeatures.of(RbfKernel(1.0), x[:12])(x)
    matrix = NystromPreconditioner.of(features, 0.1)(torch.eye(40, dtype=torch.float64))
    torch.testing.assert_close(matrix, matrix.mT)
    assert torch.linalg.eigvalsh(matrix)[0] > 0


def test_a_float32_factor_is_refined_to_float64() -> None:
    x, kernel, ridge = normal(600), RbfKernel(1.0), 1e-2
    system = kernel.gram(x) + ridge * torch.eye(600, dtype=torch.float64)
    exact = torch.linalg.solve(system, targets(x))
    found = solve_refined(kernel, x, targets(x), ridge)
    assert found.steps <= 4
    torch.testing.assert_close(found.coefficients, exact, rtol=1e-8, atol=1e-8)


def test_a_condition_beyond_float32_is_refused_in_words() -> None:
    x = normal(300)
    with pytest.raises(KernelNotPositiveDefinite, match=r"rounding|refinement"):
        solve_refined(RbfKernel(8.0), x, targets(x), 1e-12)


@pytest.mark.parametrize(("ridge", "is_carried"), [(1e-2, True), (1e-7, False)])
def test_float32_products_lead_to_float64_answers(ridge: float, *, is_carried: bool) -> None:
    """Where float32 cannot carry the condition, float64 goes on alone: the answer is the same."""
    x, kernel = normal(500), RbfKernel(1.5)
    system = kernel.gram(x) + ridge * torch.eye(500, dtype=torch.float64)
    rounded = system.float()
    exact_products = 0

    def exact(vectors: torch.Tensor) -> torch.Tensor:
        nonlocal exact_products
        exact_products += 1
        return system @ vectors

    precondition = NystromPreconditioner.of(NystromFeatures.of(kernel, x[:450])(x), ridge)
    found = iterative.solve_in_mixed_precision(
        lambda v: (rounded @ v.float()).double(), exact, targets(x), precondition, 1e-10, 800
    )
    left = (targets(x) - system @ found.coefficients).norm(dim=0) / targets(x).norm(dim=0)
    assert float(left.max()) < (1e-10 if is_carried else 1e-8)
    assert (exact_products <= 4) == is_carried
    if is_carried:
        torch.testing.assert_close(found.coefficients, torch.linalg.solve(system, targets(x)))


def test_a_system_that_is_solved_takes_no_step() -> None:
    zero = torch.zeros(5, 1, dtype=torch.float64)
    found = iterative.solve_by_conjugate_gradients(lambda v: v, zero, lambda v: v, zero, 1e-10, 10)
    assert found.steps == 0
    assert torch.equal(found.coefficients, zero)
