"""The angle between vectors: for all pairs from their inner products, for nearly parallel pairs from the vectors.

An inner product says of a small angle t no more than 1 − t²/2, so that t comes with an error of about ε/t (ε the unit
of rounding). That is good enough down to ``nearly_parallel``; of what lies below, and near π, the vectors themselves
are asked.
"""

from math import pi

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bfc_core.kernels.distance import Pairs, distances_of_pairs


def complement_of_angle(
    q: Float[Tensor, "n m"], a: Float[Tensor, " n"], b: Float[Tensor, " m"]
) -> tuple[Float[Tensor, "n m"], Float[Tensor, "n m"]]:
    """π − t and √(ab) sin t for inner products q and squared norms a, b; q itself is left alone.

    √(ab) sin t = √(√(ab) − q) √(√(ab) + q), two roots because the product of the two may be beyond the largest number,
    and t = atan2(√(ab) sin t, q): acos(q/√(ab)) would lose half of the digits near ±1. The zero vector is at a right
    angle to everything but itself.
    """
    scale = torch.outer(a.sqrt(), b.sqrt())
    sine = (scale - q).clamp_min_(0.0).sqrt_().mul_(scale.add_(q).clamp_min_(0.0).sqrt_())
    turn = torch.atan2(sine, q).neg_().add_(pi)
    if not (bool((a > 0).all()) and bool((b > 0).all())):
        turn[a == 0, :] = pi / 2
        turn[:, b == 0] = pi / 2
        turn[(a == 0)[:, None] & (b == 0)] = pi
    return turn, sine


def nearly_parallel(turn: Float[Tensor, "n m"], half_turn: float = pi) -> Bool[Tensor, "n m"] | None:
    """Where the angle, given as π − t, is within ε^¼ of 0 or of π, or None; ``half_turn`` is the π of its unit."""
    if turn.numel() == 0:
        return None
    near = torch.finfo(turn.dtype).eps ** 0.25 * half_turn / pi
    least, most = turn.aminmax()
    if float(least) >= near and float(most) <= half_turn - near:
        return None
    unclear: Tensor = (turn < near) | (turn > half_turn - near)
    return unclear


def angles_of_pairs(
    x: Float[Tensor, "n d"], z: Float[Tensor, "m d"], pairs: Pairs
) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
    """t and π − t between the rows of p pairs, both to the last digits, however small.

    t = 2 atan2(‖x̂ − ẑ‖, ‖x̂ + ẑ‖) of the vectors of length one (Kahan, "How Futile are Mindless Assessments of
    Roundoff", 2006, section 12). Of two zero vectors t is 0.
    """
    x, z = _of_length_one(x), _of_length_one(z)
    apart, together = distances_of_pairs(x, z, pairs), distances_of_pairs(x, -z, pairs)
    together = together.masked_fill((apart == 0) & (together == 0), 1.0)
    return 2 * torch.atan2(apart, together), 2 * torch.atan2(together, apart)


def sine_and_turned_cosine(angle: Float[Tensor, " p"], turn: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
    """sin t + (π − t) cos t from t and π − t; near π, where the two cancel, by its series."""
    closed = angle.sin() + turn * angle.cos()
    series = turn * turn.square() / 3 * (1 - turn.square() / 10)
    return torch.where(turn < torch.finfo(turn.dtype).eps ** 0.25, series, closed)


def _of_length_one(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Divided by the largest coordinate first, whose square may be too small or too large a number."""
    tiny = torch.finfo(x.dtype).tiny
    x = x / x.abs().amax(dim=1, keepdim=True).clamp_min(tiny)
    return x / x.square().sum(1, keepdim=True).sqrt().clamp_min(tiny)
