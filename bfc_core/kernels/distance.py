"""Pairwise Euclidean distances by one matrix product, and by differences where a product says too little."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bfc_core.kernels.angle import chunks

COINCIDENT = 1e-14
"""‖x − z‖² below this share of ‖x‖² + ‖z‖² is rounding of the product."""

OFFSET = 16.0
"""Rows whose mean has so many times the square of their spread are shifted before anything is multiplied."""


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
        _fill_by_differences(distances, is_near, x, z)
    return distances


def separations(x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """``squared_distances`` with 0 for all that is only rounding of the product, close rows included."""
    distances, squares = _by_product(x, z)
    return distances.masked_fill_(distances < squares.mul_(COINCIDENT), 0.0)


def without_offset(
    x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """The same rows, both shifted to z's mean if that is far from the origin: distances are differences of small
    numbers then. Other rows are given back as they are: one outlier would move all others away from the origin.
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


def _fill_by_differences(
    distances: Float[Tensor, "n m"], where: Bool[Tensor, "n m"], x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]
) -> None:
    rows, columns = where.nonzero(as_tuple=True)
    for i, j in chunks((rows, columns), x.shape[1]):
        distances[i, j] = (x[i] - z[j]).square_().sum(1)
