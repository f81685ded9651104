"""The angle between vectors from their inner products, without the loss of digits near 0 and π."""

from math import pi

import torch
from jaxtyping import Float
from torch import Tensor


def complement_of_angle(
    q: Float[Tensor, "n m"], a: Float[Tensor, " n"], b: Float[Tensor, " m"]
) -> tuple[Float[Tensor, "n m"], Float[Tensor, "n m"]]:
    """π − t and √(ab) sin t for inner products q and squared norms a, b; q itself is left alone.

    √(ab) sin t = √((√(ab) − q)(√(ab) + q)) and t = atan2(√(ab) sin t, q): acos(q/√(ab)) would lose half of the
    digits near ±1. Where a or b is zero the angle is π/2.
    """
    scale = torch.outer(a.sqrt(), b.sqrt())
    sine = (scale - q).clamp_min_(0.0).mul_(scale.add_(q).clamp_min_(0.0)).sqrt_()
    turn = torch.atan2(sine, q).neg_().add_(pi)
    if not (bool((a > 0).all()) and bool((b > 0).all())):
        turn[a == 0, :] = pi / 2
        turn[:, b == 0] = pi / 2
    return turn, sine
