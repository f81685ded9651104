"""Adam over a pack: every member has its own moments and its own gradient clip, nothing is shared."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


@dataclass
class Adam:
    """First and second moments of a flat parameter row a member (arXiv:1412.6980, Algorithm 1).

    Letters: e members, p parameters.
    """

    first: Float[Tensor, "e p"]
    second: Float[Tensor, "e p"]
    count: int = 0

    @classmethod
    def fresh(cls, flat: Float[Tensor, "e p"]) -> "Adam":
        """Zero moments for parameters of this shape."""
        return cls(torch.zeros_like(flat), torch.zeros_like(flat))

    def step(
        self, flat: Float[Tensor, "e p"], gradient: Float[Tensor, "e p"], step_size: float, clip_norm: float
    ) -> None:
        """Clip each member's gradient to ``clip_norm`` (in place) and move ``flat`` in place.

        Entries with zero gradient since the start do not move, so a mask on the gradient freezes.
        """
        self.count += 1
        rate, epsilon = corrected(step_size, self.count)
        flat.addcdiv_(self.first, self._denominator(gradient, clip_norm).add_(epsilon), value=-rate)

    def step_by(
        self,
        flat: Float[Tensor, "e p"],
        gradient: Float[Tensor, "e p"],
        rates: Float[Tensor, "2"],
        clip_norm: float,
    ) -> None:
        """:meth:`step` with :func:`corrected` on the device; whoever calls it counts."""
        denominator = self._denominator(gradient, clip_norm).add_(rates[1])
        flat.sub_(torch.div(self.first, denominator, out=denominator).mul_(rates[0]))

    def _denominator(self, gradient: Float[Tensor, "e p"], clip_norm: float) -> Float[Tensor, "e p"]:
        """The root of the second moment, with both moments moved on by the clipped gradient.

        Operation by operation, each of which gives a number the same bits wherever it stands: a fused step is a
        quarter faster, but what a member becomes would depend on its place in the pack.
        """
        norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
        gradient.mul_((clip_norm / norm.clamp_min(1e-30)).clamp_max(1.0))
        self.first.lerp_(gradient, 1 - BETA_1)
        self.second.mul_(BETA_2).addcmul_(gradient, gradient, value=1 - BETA_2)
        return torch.sqrt(self.second, out=gradient)


def corrected(step_size: float, count: int) -> tuple[float, float]:
    """Step size and ε of step ``count``, both with the corrections of the moments' bias in them."""
    scale = math.sqrt(1 - BETA_2**count)
    return step_size * scale / (1 - BETA_1**count), EPSILON * scale


def cosine_step_size(step: int, steps: int, step_size: float) -> float:
    """From ``step_size`` at step 0 towards 0 at ``steps``, half a cosine."""
    return step_size * 0.5 * (1 + math.cos(math.pi * step / steps))
