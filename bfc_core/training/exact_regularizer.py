"""Reg with its own λ for every member and level, as the state machines of the exact mode need it.

The formula is that of :mod:`bfc_core.training.regularizer`; here λ₃, λ₄, λ₅ are 0 until a member distils a level,
and λ₆ falls with its ε₀. Letters: e members, p parameters, i length of h_ℓ.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from bfc_core.networks.distilled_densenet import DistilledDenseNet


@dataclass
class ExactRegularizer:
    """Λ̄ and λ₆ by level, each with the member axis first; 0 switches a term off."""

    network: DistilledDenseNet
    ties: dict[int, Float[Tensor, "e i i"]]
    norms: dict[int, Float[Tensor, " e"]]
    weight: float = 1.0

    def value(self, flat: Float[Tensor, "e p"]) -> Float[Tensor, " e"]:
        """Reg of every member, times ``weight`` (v in classification)."""
        total = flat.new_zeros(flat.shape[0])
        for level, tie in self.ties.items():
            w, k = self.network.weights(flat, level), self.network.distilled(flat, level)
            total = total + self.norms[level] * (w.square().sum((1, 2)) + k.square().sum((1, 2)))
            total = total + (tie * (k.mT @ k - w.mT @ w).square()).sum((1, 2))
        return self.weight * total

    def add_gradient(self, flat: Float[Tensor, "e p"], gradient: Float[Tensor, "e p"]) -> None:
        """Add the gradient of :meth:`value`."""
        for level, tie in self.ties.items():
            w, k = self.network.weights(flat, level), self.network.distilled(flat, level)
            norm = (2 * self.weight * self.norms[level])[:, None, None]
            gap = 4 * self.weight * tie * (k.mT @ k - w.mT @ w)
            self.network.weights(gradient, level).add_(norm * w - w @ gap)
            self.network.distilled(gradient, level).add_(norm * k + k @ gap)
