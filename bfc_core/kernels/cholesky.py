"""Cholesky factors that take the place of their matrix, and the diagonal of an inverse from a factor."""

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.errors import KernelNotPositiveDefinite
from bfc_core.kernel_cost import BLOCK_ROWS


def factor_in_place(matrix: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Overwrite a symmetric matrix by its lower Cholesky factor; 1.05 times its memory instead of 3.

    Raises:
        KernelNotPositiveDefinite: the matrix is indefinite to rounding; it is destroyed.
    """
    info = torch.empty((), dtype=torch.int32, device=matrix.device)
    # LAPACK's upper factor in column order is the lower factor in row order: the transposed view spares a copy.
    torch.linalg.cholesky_ex(matrix.mT, upper=True, out=(matrix.mT, info))
    if int(info) != 0:
        raise KernelNotPositiveDefinite(
            f"the gram plus ridge is indefinite to rounding at row {int(info)}: use a larger ridge"
        )
    return matrix


def solve_with_factor(
    factor: Float[Tensor, "n n"], right_hand_sides: Float[Tensor, "n k"]
) -> Float[Tensor, "n k"]:
    """(L Lᵀ)⁻¹ B by two triangular solves, without a copy of L."""
    half = torch.linalg.solve_triangular(factor, right_hand_sides, upper=False)
    solved: Tensor = torch.linalg.solve_triangular(factor.mT, half, upper=True)
    return solved


def inverse_diagonal(factor: Float[Tensor, "n n"]) -> Float[Tensor, " n"]:
    """Diagonal of (L Lᵀ)⁻¹: squared column norms of L⁻¹, a panel of columns at a time (n³/3 multiply-adds)."""
    n = factor.shape[0]
    diagonal = torch.empty(n, dtype=factor.dtype, device=factor.device)
    for start in range(0, n, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, n)
        panel = torch.zeros(n - start, stop - start, dtype=factor.dtype, device=factor.device)
        panel.diagonal().fill_(1.0)
        # Columns start … of L⁻¹ vanish above row start, so the trailing triangle is all that is solved with.
        inverse = torch.linalg.solve_triangular(factor[start:, start:], panel, upper=False)
        diagonal[start:stop] = inverse.square_().sum(0)
    return diagonal
