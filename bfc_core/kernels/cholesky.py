"""Cholesky factors that take the lower triangle of their matrix and leave the upper one as it was.

The upper triangle is the way back: ``restore_in_place`` turns the factor into the matrix again, so that another
ridge, or a jitter after a failure, needs neither a second matrix nor the kernel once more. Blocks of columns are
updated from the left by one matrix product each, solved against the block's own factor, and never copied.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.errors import KernelNotPositiveDefinite
from bfc_core.kernel_cost import BLOCK_ROWS, PANEL

JITTERS = (1e-14, 1e-13, 1e-12, 1e-11, 1e-10)
"""What ``factor_with_jitter`` adds, relative to the mean of the diagonal: above, it would be a ridge."""

ROWS_AT_ONCE = 8 * BLOCK_ROWS
"""Rows of a product: the library keeps copies of what it multiplies."""


def factor_in_place(
    matrix: Float[Tensor, "n n"], advanced: Callable[[], None] = lambda: None
) -> Float[Tensor, "n n"]:
    """Overwrite the lower triangle of a symmetric matrix by its Cholesky factor L; 1.05 times its memory.

    The strict upper triangle keeps the matrix; what reads the factor must read its lower triangle only.
    ``advanced`` is called after every block of columns and may raise to stop.

    Raises:
        KernelNotPositiveDefinite: the matrix is indefinite to rounding; its lower triangle is destroyed, and the
            strict upper one is as it was.
    """
    n = matrix.shape[0]
    for start in range(0, n, PANEL):
        stop = min(start + PANEL, n)
        own = matrix[start:stop, start:stop]
        above = own.triu(1)
        if start > 0:
            left = matrix[start:stop, :start].mT
            for row in range(start, n, ROWS_AT_ONCE):
                rows = slice(row, row + ROWS_AT_ONCE)
                matrix[rows, start:stop].addmm_(matrix[rows, :start], left, alpha=-1)
        factor, info = torch.linalg.cholesky_ex(own)
        if int(info) != 0:
            # The update has gone over both triangles of the block, and the upper one is the way back.
            own.copy_(above)
            raise KernelNotPositiveDefinite(
                f"the gram plus ridge is indefinite to rounding at row {start + int(info)}: use a larger ridge"
            )
        own.copy_(factor.tril_().add_(above))
        if stop < n:
            # The transposed view is what the library calls column order: solved in place, without a copy.
            below = matrix[stop:, start:stop].mT
            torch.linalg.solve_triangular(own.tril(), below, upper=False, out=below)
        advanced()
    return matrix


def restore_in_place(factor: Float[Tensor, "n n"], diagonal: Float[Tensor, " n"]) -> Float[Tensor, "n n"]:
    """Undo ``factor_in_place``: the upper triangle mirrored below, and ``diagonal`` on the diagonal."""
    n = factor.shape[0]
    for start in range(0, n, BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, n))
        for column in range(0, start, BLOCK_ROWS):
            columns = slice(column, column + BLOCK_ROWS)
            factor[rows, columns] = factor[columns, rows].mT
        own = factor[rows, rows]
        above = own.triu(1)
        own.copy_(above + above.mT)
    factor.diagonal().copy_(diagonal)
    return factor


def factor_with_jitter(
    matrix: Float[Tensor, "n n"], advanced: Callable[[], None] = lambda: None
) -> tuple[Float[Tensor, "n n"], float]:
    """Factor in place; after a failure rebuild the matrix, add the next of ``JITTERS`` to its diagonal, try again.

    Returns the factor and what was added to the diagonal (0 where nothing was), for the caller to report.

    Raises:
        KernelNotPositiveDefinite: the largest jitter did not help.
    """
    diagonal = matrix.diagonal().clone()
    scale = float(diagonal.mean())
    try:
        return factor_in_place(matrix, advanced), 0.0
    except KernelNotPositiveDefinite as failure:
        first = failure
    epsilon = torch.finfo(matrix.dtype).eps / torch.finfo(torch.float64).eps
    for relative in JITTERS:
        jitter = relative * epsilon * scale
        try:
            return factor_in_place(restore_in_place(matrix, diagonal + jitter), advanced), jitter
        except KernelNotPositiveDefinite:
            continue
    raise first


def solve_with_factor(
    factor: Float[Tensor, "n n"], right_hand_sides: Float[Tensor, "n k"]
) -> Float[Tensor, "n k"]:
    """(L Lᵀ)⁻¹ B by blocked substitution: only L's lower triangle is read, and nothing larger than a block copied."""
    solved = right_hand_sides.clone()
    blocks = _blocks(factor.shape[0])
    for rows in blocks:
        solved[rows] -= factor[rows, : rows.start] @ solved[: rows.start]
        solved[rows] = torch.linalg.solve_triangular(factor[rows, rows].tril(), solved[rows], upper=False)
    for rows in reversed(blocks):
        solved[rows] -= factor[rows.stop :, rows].mT @ solved[rows.stop :]
        solved[rows] = torch.linalg.solve_triangular(factor[rows, rows].tril().mT, solved[rows], upper=True)
    return solved


def inverse_diagonal(
    factor: Float[Tensor, "n n"], advanced: Callable[[], None] = lambda: None
) -> Float[Tensor, " n"]:
    """Diagonal of (L Lᵀ)⁻¹: squared column norms of L⁻¹, a panel of columns at a time (n³/3 operations)."""
    n = factor.shape[0]
    diagonal = torch.zeros(n, dtype=factor.dtype, device=factor.device)
    blocks = _blocks(n)
    inverses = [
        torch.linalg.solve_triangular(
            factor[rows, rows].tril(),
            torch.eye(rows.stop - rows.start, dtype=factor.dtype, device=factor.device),
            upper=False,
        )
        for rows in blocks
    ]
    for first, columns in enumerate(blocks):
        panel = torch.empty(
            n - columns.start, columns.stop - columns.start, dtype=factor.dtype, device=factor.device
        )
        panel[: columns.stop - columns.start] = inverses[first]
        # Columns start … of L⁻¹ vanish above row start, so the trailing triangle is all that is solved with.
        for block in range(first + 1, len(blocks)):
            rows = blocks[block]
            done = slice(0, rows.start - columns.start)
            product = factor[rows, columns.start : rows.start] @ panel[done]
            torch.mm(
                inverses[block], product.neg_(), out=panel[done.stop : done.stop + rows.stop - rows.start]
            )
        diagonal[columns] = panel.square_().sum(0)
        advanced()
    return diagonal


def _blocks(n: int) -> list[slice]:
    return [slice(start, min(start + BLOCK_ROWS, n)) for start in range(0, n, BLOCK_ROWS)]
