"""Adam over a pack: every member has its own moments and its own gradient clip, nothing is shared."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.networks.member_arrays import lines_of, member_rows

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8

MANY_STEPS = torch.tensor(1e9)
"""A count of steps after which torch corrects no bias."""


@dataclass
class Adam:
    """First and second moments of a flat parameter row a member (arXiv:1412.6980, Algorithm 1).

    All rows are :func:`member_rows`: torch's fused step treats the end of an array otherwise than the rest, in the
    last bit, and with whole lines no number stands there, whatever its member's place in the pack. That is a property
    of torch's kernel, which tests watch (tests/bfc_core/networks/test_member_arrays.py).

    Letters: e members, p parameters.
    """

    first: Float[Tensor, "e p"]
    second: Float[Tensor, "e p"]
    count: int = 0

    @classmethod
    def fresh(cls, flat: Float[Tensor, "e p"]) -> "Adam":
        """Zero moments for parameters of this shape."""
        nothing = torch.zeros_like(flat)
        return cls.resumed(nothing, nothing, 0)

    @classmethod
    def resumed(cls, first: Float[Tensor, "e p"], second: Float[Tensor, "e p"], count: int) -> "Adam":
        """With the moments of a checkpoint."""
        return cls(member_rows(first), member_rows(second), count)


class AdamSteps:
    """Moves ``flat`` in place by what stands in ``gradient``, time and again; views are made once.

    Every member's gradient is clipped (in place) to ``clip_norm``. Entries with zero gradient since the start do not
    move, so a mask on the gradient freezes.
    """

    def __init__(
        self, adam: Adam, flat: Float[Tensor, "e p"], gradient: Float[Tensor, "e p"], clip_norm: float
    ) -> None:
        self.adam, self._flat, self._gradient = adam, flat, gradient
        self._clip_norm = torch.full((), clip_norm, dtype=flat.dtype, device=flat.device)
        if flat.device.type == "cpu":
            self._lines = [lines_of(rows) for rows in (flat, gradient, adam.first, adam.second)]

    def take(self, step_size: float) -> None:
        """One step, counted."""
        self.adam.count += 1
        rate, epsilon = corrected(step_size, self.adam.count)
        if self._flat.device.type != "cpu":
            self._flat.addcdiv_(self.adam.first, self._denominator().add_(epsilon), value=-rate)
            return
        self._clip()
        # One pass instead of seven. The corrections are in rate and ε already: as after very many steps.
        flat, gradient, first, second = self._lines
        torch._fused_adam_(
            [flat], [gradient], [first], [second], [], [MANY_STEPS], lr=rate, beta1=BETA_1, beta2=BETA_2,
            weight_decay=0.0, eps=epsilon, amsgrad=False, maximize=False,
        )  # fmt: skip

    def take_by(self, rates: Float[Tensor, "2"]) -> None:
        """:meth:`take` with :func:`corrected` on the device; whoever calls it counts."""
        denominator = self._denominator().add_(rates[1])
        self._flat.sub_(torch.div(self.adam.first, denominator, out=denominator).mul_(rates[0]))

    def _denominator(self) -> Float[Tensor, "e p"]:
        """The root of the second moment, with both moments moved on by the clipped gradient."""
        self._clip()
        self.adam.first.lerp_(self._gradient, 1 - BETA_1)
        self.adam.second.mul_(BETA_2).addcmul_(self._gradient, self._gradient, value=1 - BETA_2)
        return torch.sqrt(self.adam.second, out=self._gradient)

    def _clip(self) -> None:
        """A row that is no longer than the bound is multiplied by bound / bound."""
        norm = torch.linalg.vector_norm(self._gradient, dim=1, keepdim=True).clamp_min_(self._clip_norm)
        self._gradient.mul_(torch.div(self._clip_norm, norm, out=norm))


def corrected(step_size: float, count: int) -> tuple[float, float]:
    """Step size and ε of step ``count``, both with the corrections of the moments' bias in them."""
    scale = math.sqrt(1 - BETA_2**count)
    return step_size * scale / (1 - BETA_1**count), EPSILON * scale


def cosine_step_size(step: int, steps: int, step_size: float) -> float:
    """From ``step_size`` at step 0 towards 0 at ``steps``, half a cosine."""
    return step_size * 0.5 * (1 + math.cos(math.pi * step / steps))
