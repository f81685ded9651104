"""Drawing inputs: nested in n, the same for every learner of a seed."""

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.seeding import Purpose, generator_for
from bfc_core.specs import GaussianInputs

BLOCK = 1024
"""Rows per independent block; a smaller n is a prefix of a larger one."""


def draw_inputs(law: GaussianInputs, n: int, dim: int, seed: int, purpose: Purpose) -> Float[Tensor, "n dim"]:
    """Draw ``n`` rows of the law in float64 from the seed's stream for ``purpose``."""
    match law:
        case GaussianInputs():
            blocks = [
                torch.randn(BLOCK, dim, generator=generator_for(seed, purpose, block), dtype=torch.float64)
                for block in range((n + BLOCK - 1) // BLOCK)
            ]
    return torch.cat(blocks)[:n]
