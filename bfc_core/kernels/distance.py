"""Pairwise Euclidean distances by one matrix product, and by differences where a product says too little."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bfc_core.flops.counting import charged
from bfc_core.kernel_cost import BLOCK_ROWS

Pairs = tuple[Int[Tensor, " p"], Int[Tensor, " p"]]
"""Rows and columns of p entries of a block."""

COINCIDENT = 1e-14
"""‖x − z‖² below this share of ‖x‖² + ‖z‖² is rounding of the product."""

MANY = 16
"""Of a block's pairs more than one in so many: then one product for all of them is cheaper."""

_NUMBERS_AT_ONCE = BLOCK_ROWS**2

OFFSET = 16.0
"""Rows whose mean has so many times the square of their spread are shifted before anything is multiplied."""


def pairs_of(where: Bool[Tensor, "n m"]) -> Pairs:
    """Rows and columns of what is true."""
    rows, columns = where.nonzero(as_tuple=True)
    return rows, columns


def squared_distances(
    x: Float[Tensor, "n d"], z: Float[Tensor, "m d"], near: float | None = None
) -> Float[Tensor, "n m"]:
    """‖x_i − z_j‖² from ‖x_i‖² + ‖z_j‖² − 2 x_i·z_j; equal rows are at distance 0.

    What is below ``near`` times ‖x_i‖² + ‖z_j‖² is summed again from the differences, so that the relative error is
    about ε/``near`` (ε the unit of rounding) and of close rows ε; None is ε^⅓.
    """
    distances, squares = _by_product(*without_offset(x, z))
    is_near = distances < squares.mul_(torch.finfo(x.dtype).eps ** (1 / 3) if near is None else near)
    if bool(is_near.any()):
        pairs = pairs_of(is_near)
        distances[pairs] = _by_differences(x, z, pairs)
    return distances


def distances_of_pairs(x: Float[Tensor, "n d"], z: Float[Tensor, "m d"], pairs: Pairs) -> Float[Tensor, " p"]:
    """‖x_i − z_j‖ of p pairs, close ones to the last digits.

    How many such pairs there are is a matter of the data, and no FLOPs are counted for them.
    """
    if MANY * len(pairs[0]) > len(x) * len(z):
        with charged(0):
            return squared_distances(x, z)[pairs].sqrt_()
    return _by_differences(x, z, pairs).sqrt_()


def separations(x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """``squared_distances`` with 0 for all that is only rounding of the product, close rows included."""
    distances, squares = _by_product(x, z)
    return distances.masked_fill_(distances < squares.mul_(COINCIDENT), 0.0)


def without_offset(
    x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """The same rows, both shifted to z's mean if that is far from the origin.

    Distances are differences of small numbers then. Other rows are given back as they are: one outlier would move all
    others away from the origin.
    """
    if len(z) == 0:
        return x, z
    mean = z.mean(0)
    shifted = z - mean
    if not bool(mean.square().sum() > OFFSET * shifted.square().sum(1).mean()):
        return x, z
    return x - mean, shifted


def _by_product(
    x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]
) -> tuple[Float[Tensor, "n m"], Float[Tensor, "n m"]]:
    squares = x.square().sum(1)[:, None] + z.square().sum(1)[None, :]
    return torch.addmm(squares, x, z.mT, alpha=-2.0), squares


def _by_differences(x: Float[Tensor, "n d"], z: Float[Tensor, "m d"], pairs: Pairs) -> Float[Tensor, " p"]:
    """‖x_i − z_j‖² of p pairs, as many at a time as their rows take the memory of a block."""
    rows, columns = pairs
    squares = torch.empty(len(rows), dtype=x.dtype, device=x.device)
    step = max(1, _NUMBERS_AT_ONCE // max(1, x.shape[1]))
    for start in range(0, len(rows), step):
        some = slice(start, start + step)
        squares[some] = (x[rows[some]] - z[columns[some]]).square_().sum(1)
    return squares
