"""Gram matrices block by block: a block stays in the cache, and of a symmetric one only half is computed."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.kernel_cost import BLOCK_ROWS
from bfc_core.kernels.pulse import beat

Block = Callable[[Tensor, Tensor], Tensor]


def symmetric_gram(
    block: Block,
    diagonal: Float[Tensor, " n"],
    x: Float[Tensor, "n d"],
    known: Float[Tensor, "m m"] | None = None,
) -> Float[Tensor, "n n"]:
    """Gram of x with itself: lower-triangle blocks, mirrored, exactly symmetric, ``diagonal`` on the diagonal.

    ``known`` is the gram of more rows that begin with x, or of the first rows of x: its whole blocks are copied, so
    that the answer has the same bits as without it.
    """
    n = x.shape[0]
    gram = torch.empty(n, n, dtype=x.dtype, device=x.device)
    copied = 0 if known is None else min(n, len(known)) // BLOCK_ROWS * BLOCK_ROWS
    if known is not None:
        gram[:copied, :copied] = known[:copied, :copied]
    for start in range(copied, n, BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, n))
        for column in range(0, start, BLOCK_ROWS):
            columns = slice(column, column + BLOCK_ROWS)
            values = block(x[rows], x[columns])
            gram[rows, columns] = values
            gram[columns, rows] = values.mT
            beat()
        values = block(x[rows], x[rows])
        # The two halves of a diagonal block may differ in the last bit; a symmetric solver reads one of them.
        gram[rows, rows] = (values + values.mT).mul_(0.5)
        beat()
    gram.diagonal().copy_(diagonal)
    return gram


def cross_gram(block: Block, x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Gram between the rows of x and z."""
    gram = torch.empty(x.shape[0], z.shape[0], dtype=x.dtype, device=x.device)
    for start in range(0, x.shape[0], BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        for column in range(0, z.shape[0], BLOCK_ROWS):
            columns = slice(column, column + BLOCK_ROWS)
            gram[rows, columns] = block(x[rows], z[columns])
            beat()
    return gram


def gram_times(
    block: Block, x: Float[Tensor, "t d"], anchors: Float[Tensor, "n d"], weights: Float[Tensor, "n k"]
) -> Float[Tensor, "t k"]:
    """k(x, anchors) @ weights without ever holding the t × n matrix."""
    product = torch.zeros(x.shape[0], weights.shape[1], dtype=x.dtype, device=x.device)
    for start in range(0, x.shape[0], BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        for column in range(0, anchors.shape[0], BLOCK_ROWS):
            columns = slice(column, column + BLOCK_ROWS)
            product[rows] += block(x[rows], anchors[columns]) @ weights[columns]
            beat()
    return product
