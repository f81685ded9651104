"""How much columns vary, where rounding does not count as varying."""

import torch
from jaxtyping import Float
from torch import Tensor

ROUNDING = 1e-12
"""A column that varies by less than this share of its size varies by rounding."""


def spread_of(values: Float[Tensor, "n r"], size: Float[Tensor, " r"] | None = None) -> Float[Tensor, " r"]:
    """Standard deviation of every column; infinite where it is rounding, so that what is divided by it vanishes.

    ``size`` is what a column's numbers were made from, where that is more than they are (a sum that cancels); else
    their root mean square.
    """
    spread = values.std(0, unbiased=False)
    size = values.square().mean(0).sqrt() if size is None else size
    return torch.where(spread > ROUNDING * size, spread, torch.inf)
