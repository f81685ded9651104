"""Arc-cosine kernels: Cho and Saul, "Kernel Methods for Deep Learning", NeurIPS 2009.

With t the angle between x and z: order 0 is 1 − t/π, order 1 is ‖x‖‖z‖ (sin t + (π − t) cos t)/π. They are twice
the NNGP covariance of one hidden layer of steps, or of ReLUs, without the factor 1/d.
"""

from dataclasses import dataclass
from math import pi
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.kernels.angle import (
    angles_of_pairs,
    complement_of_angle,
    nearly_parallel,
    sine_and_turned_cosine,
)
from bfc_core.kernels.base import Kernel
from bfc_core.kernels.distance import Pairs, pairs_of


@dataclass(frozen=True)
class ArcCosineKernel(Kernel):
    """The arc-cosine kernel of order 0 or 1."""

    order: Literal[0, 1]

    def block(self, x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        """The closed form; the zero vector is at a right angle to everything but itself."""
        q = torch.mm(x, z.mT)
        turn, sine = complement_of_angle(q, x.square().sum(1), z.square().sum(1))
        near = nearly_parallel(turn)
        values = turn.div_(pi) if self.order == 0 else q.mul_(turn).add_(sine).div_(pi)
        if near is not None:
            pairs = pairs_of(near)
            values[pairs] = self._pairs(x, z, pairs)
        return values

    def _pairs(self, x: Float[Tensor, "n d"], z: Float[Tensor, "m d"], pairs: Pairs) -> Float[Tensor, " p"]:
        """Of nearly parallel rows, from the rows themselves."""
        angle, turn = angles_of_pairs(x, z, pairs)
        if self.order == 0:
            return turn / pi
        norms = x.square().sum(1).sqrt()[pairs[0]] * z.square().sum(1).sqrt()[pairs[1]]
        return norms * sine_and_turned_cosine(angle, turn) / pi

    def diagonal(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """1, or ‖x‖²."""
        if self.order == 0:
            return torch.ones(x.shape[0], dtype=x.dtype, device=x.device)
        return x.square().sum(1)
