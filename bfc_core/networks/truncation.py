"""The inner activation of the learner: z², made constant far out.

Source: arXiv:2001.04413 §4 asks for a truncated, smooth σ̃ inside the network: σ̃(z) = z² for |z| ≤ B′ and
constant for |z| ≥ 2B′. The paper leaves the middle free; here σ̃′(z) = 2z · s(u) with u = (|z| − B′)/B′ and
the smoothstep s(u) = 1 − 3u² + 2u³, so that σ̃ is twice differentiable.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def truncated_square(z: Float[Tensor, "..."], bound: float | None) -> Float[Tensor, "..."]:
    """σ̃(z); the plain z² where ``bound`` (B′) is None."""
    if bound is None:
        return z.square()
    u = ((z.abs() - bound) / bound).clamp(0.0, 1.0)
    # ∫₀ᵘ (1 + v) s(v) dv, with s the smoothstep above: u + u²/2 − u³ − u⁴/4 + 2u⁵/5.
    middle = u * (1 + u * (0.5 + u * (-1 + u * (-0.25 + u * 0.4))))
    return z.clamp(-bound, bound).square() + 2 * bound**2 * middle


def truncated_square_derivative(z: Float[Tensor, "..."], bound: float | None) -> Float[Tensor, "..."]:
    """σ̃′(z)."""
    if bound is None:
        return 2 * z
    u = ((z.abs() - bound) / bound).clamp(0.0, 1.0)
    return 2 * z * (1 + u * u * (2 * u - 3))


def effective_bound(z: Float[Tensor, "..."], bound: float | None) -> float | None:
    """``bound``, or None where no entry of z reaches it: nearly always, and one pass then saves ten.

    On an accelerator it is not asked, since the answer would stop the queue of kernels.
    """
    if bound is None or z.device.type != "cpu" or z.numel() == 0:
        return bound
    low, high = torch.aminmax(z.detach())
    return None if -bound <= low.item() and high.item() <= bound else bound


def reach_of(lift: Float[Tensor, "e q k"]) -> float | None:
    """max Σ_k |R_qk|: how many times |S| an entry of R S can be. None on an accelerator, where it is not asked."""
    return float(lift.abs().sum(2).max()) if lift.device.type == "cpu" else None


def bound_in_reach(
    z: Float[Tensor, "..."], bound: float | None, feature: Float[Tensor, "..."], reach: float | None
) -> float | None:
    """:func:`effective_bound` of z = R S, asking the few entries of S first: |z| ≤ ``reach`` · max |S|."""
    if bound is not None and reach is not None and feature.numel():
        low, high = torch.aminmax(feature.detach())
        if reach * max(-low.item(), high.item()) <= bound:
            return None
    return effective_bound(z, bound)
