"""Pairwise Euclidean distances by one matrix product."""

import torch
from jaxtyping import Float
from torch import Tensor

COINCIDENT = 1e-14
"""‖x − z‖² below this share of ‖x‖² + ‖z‖² is rounding of the product: the points are the same."""


def squared_distances(x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """‖x_i‖² + ‖z_j‖² − 2 x_i·z_j, with what is only rounding set to zero."""
    squares = x.square().sum(1)[:, None] + z.square().sum(1)[None, :]
    distances = torch.addmm(squares, x, z.mT, alpha=-2.0)
    return distances.masked_fill_(distances < squares.mul_(COINCIDENT), 0.0)
