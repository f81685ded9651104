"""Kernels of infinitely wide networks on pairs of nearly parallel inputs, through the layers by their angle.

The recursion of ``network.py`` keeps q = √(ab) cos t, which says of a small angle t no more than 1 − t²/2: half of t's
digits are lost, and the NTK, whose slope (π − t)/2π is linear in t, with them. Here u and v are the vectors whose
inner products are the first covariances, t comes from them, and every ReLU layer passes on the gap √(ab) − q, of which
nothing cancels:

    gap ← (s_w²/2π) (π gap − √(ab) (sin t − t cos t)) + (s_w² s_b²/2) (√a − √b)² / (√(a′b′) + s_w² √(ab)/2 + s_b²),

with a′, b′ the next variances and 1 − cos t = gap/√(ab) = 2 sin²(t/2). Under erf the next covariances are at most
s_w² + s_b², where q says enough; only the first layer needs the angle, in √((1 + 2a)(1 + 2b) − 4q²).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.kernels.angle import angles_of_pairs, sine_and_turned_cosine
from bfc_core.kernels.distance import Pairs


@dataclass(frozen=True)
class Layer:
    """s_w², s_b², and the next layer's variance from this one's."""

    weight_variance: float
    bias_variance: float
    next_variance: Callable[[Tensor], Tensor]


def relu_of_pairs(
    layer: Layer, depth: int, u: Float[Tensor, "n e"], v: Float[Tensor, "m e"], pairs: Pairs
) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
    """NNGP and NTK between the rows of p pairs after ``depth`` layers of ReLUs."""
    weight, bias = layer.weight_variance, layer.bias_variance
    a, b = u.square().sum(1)[pairs[0]], v.square().sum(1)[pairs[1]]
    angle, turn = angles_of_pairs(u, v, pairs)
    scale = a.sqrt() * b.sqrt()
    covariance = tangent = scale * angle.cos()
    for _ in range(depth):
        covariance = weight / (2 * pi) * scale * sine_and_turned_cosine(angle, turn) + bias
        tangent = covariance + weight / (2 * pi) * turn * tangent
        # The two of one angle are subtracted before the large factor comes in, which may be near the largest number.
        share = 2 * pi * (angle / 2).sin().square() - (angle.sin() - angle * angle.cos())
        gap = weight / (2 * pi) * share * scale
        apart = a.sqrt() - b.sqrt()
        middle = weight / 2 * scale + bias
        a, b = layer.next_variance(a), layer.next_variance(b)
        scale = a.sqrt() * b.sqrt()
        if bias > 0:
            gap = gap + weight * bias / 2 * apart * (apart / (scale + middle))
        half_sine = (gap / (2 * scale.clamp_min(torch.finfo(scale.dtype).tiny))).clamp(0.0, 1.0).sqrt()
        angle = 2 * half_sine.asin()
        turn = pi - angle
    return covariance, tangent


def erf_of_pairs(
    layer: Layer, depth: int, u: Float[Tensor, "n e"], v: Float[Tensor, "m e"], pairs: Pairs
) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
    """NNGP and NTK between the rows of p pairs after ``depth`` layers of erf."""
    a, b = u.square().sum(1)[pairs[0]], v.square().sum(1)[pairs[1]]
    angle, _ = angles_of_pairs(u, v, pairs)
    scale = a.sqrt() * b.sqrt()
    covariance = tangent = scale * angle.cos()
    # √(1 + 2a + 2b + 4 ab sin² t) = √((1 + 2a)(1 + 2b) − 4q²), without the square of a number that may be too large.
    root = torch.hypot((1 + 2 * a + 2 * b).sqrt(), 2 * scale * angle.sin())
    for _ in range(depth):
        slope = 4 / pi / root
        moment = 2 / pi * torch.atan2(2 * covariance, root)
        covariance = layer.weight_variance * moment + layer.bias_variance
        tangent = covariance + layer.weight_variance * slope * tangent
        a, b = layer.next_variance(a), layer.next_variance(b)
        root = ((1 + 2 * a) * (1 + 2 * b) - 4 * covariance.square()).sqrt()
    return covariance, tangent
