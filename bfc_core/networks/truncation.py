"""The inner activation of the learner: z², made constant far out.

Source: arXiv:2001.04413 §4 asks for a truncated, smooth σ̃ inside the network: σ̃(z) = z² for |z| ≤ B′ and
constant for |z| ≥ 2B′. The paper leaves the middle free; here σ̃′(z) = 2z · s(u) with u = (|z| − B′)/B′ and
the smoothstep s(u) = 1 − 3u² + 2u³, so that σ̃ is twice differentiable.
"""

from jaxtyping import Float
from torch import Tensor


def truncated_square(z: Float[Tensor, "..."], bound: float | None) -> Float[Tensor, "..."]:
    """σ̃(z); the plain z² where ``bound`` (B′) is None."""
    if bound is None:
        return z.square()
    u = ((z.abs() - bound) / bound).clamp(0.0, 1.0)
    # ∫₀ᵘ (1 + v) s(v) dv, with s the smoothstep above.
    middle = u + u.pow(2) / 2 - u.pow(3) - u.pow(4) / 4 + 2 * u.pow(5) / 5
    return z.clamp(-bound, bound).square() + 2 * bound**2 * middle


def truncated_square_derivative(z: Float[Tensor, "..."], bound: float | None) -> Float[Tensor, "..."]:
    """σ̃′(z)."""
    if bound is None:
        return 2 * z
    u = ((z.abs() - bound) / bound).clamp(0.0, 1.0)
    return 2 * z * (1 - 3 * u.pow(2) + 2 * u.pow(3))
