"""The lower triangle of a gram in blocks: half its memory, formed once and multiplied often."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.kernel_cost import BLOCK_ROWS
from bfc_core.kernels.base import Kernel


@dataclass(frozen=True)
class LowerBlocks:
    """``rows[i][j]`` is the block of the i-th and the j-th ``slices``, j ≤ i; those with i = j are whole."""

    slices: list[slice]
    rows: list[list[Tensor]]

    @classmethod
    def of(
        cls, kernel: Kernel, x: Float[Tensor, "n d"], alive: Callable[[], None] = lambda: None
    ) -> "LowerBlocks":
        """Of the gram of x with itself, exactly symmetric; ``alive`` is called after every row of blocks."""
        diagonal = kernel.diagonal(x)
        slices = [slice(start, start + BLOCK_ROWS) for start in range(0, len(x), BLOCK_ROWS)]
        rows = []
        for index, part in enumerate(slices):
            own = kernel.block(x[part], x[part])
            own = (own + own.mT).mul_(0.5)
            own.diagonal().copy_(diagonal[part])
            rows.append([*(kernel.block(x[part], x[before]) for before in slices[:index]), own])
            alive()
        return cls(slices, rows)

    def times(self, vectors: Float[Tensor, "n t"]) -> Float[Tensor, "n t"]:
        """The gram's product with vectors."""
        product = torch.zeros_like(vectors)
        for part, blocks in zip(self.slices, self.rows, strict=True):
            *before, own = blocks
            for column, block in zip(self.slices, before, strict=False):
                product[part] += block @ vectors[column]
                product[column] += block.mT @ vectors[part]
            product[part] += own @ vectors[part]
        return product

    def rounded(self) -> Float[Tensor, "n n"]:
        """The gram's lower triangle in float32; above its diagonal blocks are zeros."""
        n = sum(len(blocks[0]) for blocks in self.rows)
        matrix = torch.zeros(n, n, dtype=torch.float32, device=self.rows[0][0].device)
        for part, blocks in zip(self.slices, self.rows, strict=True):
            for column, block in zip(self.slices, blocks, strict=False):
                matrix[part, column] = block
        return matrix
