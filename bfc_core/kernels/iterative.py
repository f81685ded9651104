"""Kernel ridge without its gram: conjugate gradients on (K + λI) α = y, preconditioned by a Nyström approximation.

Frangella, Tropp and Udell, "Randomized Nyström Preconditioning" (2021), arXiv:2110.02820. With U the leading
eigenvectors of the approximation, Λ its eigenvalues and ℓ the least of them,

    P⁻¹ = I − U (I − (ℓ + λ)(Λ + λ)⁻¹) Uᵀ.

The approximation steers and does not enter the answer, which is that of the exact kernel; the gram is formed block by
block in every step and never held. Memory is n × centres.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.kernel_cost import BLOCK_ROWS
from bfc_core.kernels.base import Kernel
from bfc_core.kernels.thread_shares import in_shares

FALL = 5e-3
"""Of the residual under float32 products, before it is formed anew in float64."""

STALLED = 0.1
"""A larger share of the residual that is left shows a condition that float32 cannot carry."""

ROUNDED_ROWS = BLOCK_ROWS * 3 // 2
"""Rows of a block in float32: about as many bytes as one in float64."""

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class IterativeSolution:
    """Coefficients, steps taken, and the largest relative residual ‖y − (K + λI)α‖ / ‖y‖ that is left."""

    coefficients: Float[Tensor, "n t"]
    steps: int
    residual: float


@dataclass(frozen=True)
class NystromPreconditioner:
    """P⁻¹ above, from orthonormal columns U (n, r) and their eigenvalues."""

    basis: Float[Tensor, "n r"]
    values: Float[Tensor, " r"]
    ridge: float

    @classmethod
    def of(cls, features: Float[Tensor, "n r"], ridge: float) -> "NystromPreconditioner":
        """From Φ with ΦΦᵀ ≈ K; directions of Φ that are rounding are left out. Φ's memory is taken over."""
        values, vectors = torch.linalg.eigh(features.mT @ features)
        kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
        values, vectors = values[kept], vectors[:, kept]
        basis = features if bool(kept.all()) else torch.empty_like(features[:, : len(values)])
        for start in range(0, len(features), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            basis[rows] = (features[rows] @ vectors).mul_(values.rsqrt())
        return cls(basis, values, ridge)

    def __call__(self, residuals: Float[Tensor, "n t"]) -> Float[Tensor, "n t"]:
        """P⁻¹ r."""
        shrink = 1 - (self.values[0] + self.ridge) / (self.values + self.ridge)
        return residuals - self.basis @ (shrink[:, None] * (self.basis.mT @ residuals))


def symmetric_gram_times(
    kernel: Kernel,
    x: Float[Tensor, "n d"],
    vectors: Float[Tensor, "n t"],
    alive: Callable[[], None] = lambda: None,
) -> Float[Tensor, "n t"]:
    """K @ vectors; every block of the lower triangle is formed once and used twice.

    Blocks have the precision of x, their products' sum that of the vectors.
    """
    if x.device.type != "cpu":
        parts = [_share_of_product(kernel, x, vectors, 0, 1, alive)]
    else:
        parts = in_shares(lambda *share: _share_of_product(kernel, x, vectors, *share), alive)
    return sum(parts, start=kernel.diagonal(x)[:, None].to(vectors.dtype) * vectors)


def solve_by_conjugate_gradients(
    times: Product,
    right_hand_sides: Float[Tensor, "n t"],
    precondition: Product,
    start: Float[Tensor, "n t"] | None,
    tolerance: float,
    most_steps: int,
) -> IterativeSolution:
    """Preconditioned conjugate gradients, every column with its own step sizes, until all residuals are small.

    ``times`` and ``precondition`` are symmetric positive definite; without ``start`` it begins at zero, where no
    product is needed. The residual is that of the recurrence.
    """
    coefficients = torch.zeros_like(right_hand_sides) if start is None else start.clone()
    scale = right_hand_sides.norm(dim=0).clamp_min(torch.finfo(right_hand_sides.dtype).tiny)
    residuals = right_hand_sides.clone() if start is None else right_hand_sides - times(coefficients)
    directions = torch.zeros_like(residuals)
    before = torch.ones_like(scale)
    steps = 0
    while float((residuals.norm(dim=0) / scale).max()) > tolerance and steps < most_steps:
        preconditioned = precondition(residuals)
        now = (residuals * preconditioned).sum(0)
        directions = preconditioned + directions * (now / before if steps else torch.zeros_like(now))
        product = times(directions)
        curvature = (directions * product).sum(0)
        # A column that is solved to the last bit has no direction left: it stays where it is.
        length = torch.where(curvature > 0, now / curvature, 0.0)
        coefficients += length * directions
        residuals -= length * product
        before = torch.where(now > 0, now, 1.0)
        steps += 1
    return IterativeSolution(coefficients, steps, float((residuals.norm(dim=0) / scale).max()))


def solve_in_mixed_precision(
    rounded: Product,
    exact: Product,
    right_hand_sides: Float[Tensor, "n t"],
    precondition: Product,
    tolerance: float,
    most_steps: int,
) -> IterativeSolution:
    """The same with most products ``rounded`` to float32.

    Each time the residual has fallen by ``FALL``, ``exact`` forms it anew in float64: the answer's is a true one. Where
    the float32 products no longer lower it, conjugate gradients go on with ``exact`` alone.
    """
    scale = right_hand_sides.norm(dim=0).clamp_min(torch.finfo(right_hand_sides.dtype).tiny)
    coefficients, residuals = torch.zeros_like(right_hand_sides), right_hand_sides
    steps, left = 0, 1.0
    while left > tolerance and steps < most_steps:
        fall = max(FALL, 0.5 * tolerance / left)
        most = min(most_steps - steps, most_steps // 4)
        found = solve_by_conjugate_gradients(rounded, residuals, precondition, None, fall, most)
        steps += found.steps
        moved = coefficients + found.coefficients
        residuals = right_hand_sides - exact(moved)
        before, left = left, float((residuals.norm(dim=0) / scale).max())
        if left < before:
            coefficients = moved
        if not left <= STALLED * before:
            rest = solve_by_conjugate_gradients(
                exact, right_hand_sides, precondition, coefficients, tolerance, most_steps - steps
            )
            return IterativeSolution(rest.coefficients, steps + rest.steps, rest.residual)
    return IterativeSolution(coefficients, steps, left)


def _share_of_product(
    kernel: Kernel,
    x: Float[Tensor, "n d"],
    vectors: Float[Tensor, "n t"],
    number: int,
    count: int,
    alive: Callable[[], None],
) -> Float[Tensor, "n t"]:
    """What one share's rows of blocks add to the product, the diagonal left out."""
    product, rounded = torch.zeros_like(vectors), vectors.to(x.dtype)
    size = ROUNDED_ROWS if x.dtype == torch.float32 else BLOCK_ROWS
    block_of = kernel.blocks_of(x)
    for index, start in enumerate(range(0, len(x), size)):
        # Rows of the triangle grow: dealt there and back, every share has as many blocks.
        if min(index % (2 * count), 2 * count - 1 - index % (2 * count)) != number:
            continue
        rows = slice(start, start + size)
        for column in range(0, start, size):
            columns = slice(column, column + size)
            block = block_of(rows, columns)
            product[rows] += block @ rounded[columns]
            product[columns] += block.mT @ rounded[rows]
        own = block_of(rows, rows).fill_diagonal_(0.0)
        product[rows] += (own + own.mT).mul_(0.5) @ rounded[rows]
        alive()
    return product
