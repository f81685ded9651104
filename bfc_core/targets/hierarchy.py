"""A target that is a composition of quadratic levels with given weights.

Source: arXiv:2001.04413 §3. G*_0 = x, G*_1 = x² − mean; S*_ℓ = Σ_{j∈J_ℓ} W*_{ℓ,j} G*_j, G*_ℓ = (S*_ℓ)²;
G* = Σ_ℓ α_ℓ Sum(G*_ℓ).
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.specs import LOWEST_LEVEL, Hierarchy


@dataclass(frozen=True)
class HierarchyTarget:
    """G*, its level parts and level features.

    Letters: n samples, k the width of a level.
    Weights are keyed by (level ℓ, source j) and have shape (k_ℓ, width of source j).
    """

    dim: int
    hierarchy: Hierarchy
    weights: dict[tuple[int, int], Float[Tensor, "k j"]]

    def features(self, x: Float[Tensor, "n dim"]) -> dict[int, Float[Tensor, "n k"]]:
        """S*_ℓ for every level ℓ ≥ 2."""
        outputs = {0: x, 1: x.square() - self.hierarchy.level_one_mean}
        features: dict[int, Tensor] = {}
        for level in self.hierarchy.levels:
            sources = self.hierarchy.connections[level]
            features[level] = torch.stack(
                [outputs[source] @ self.weights[level, source].to(x.dtype).mT for source in sources]
            ).sum(0)
            outputs[level] = features[level].square()
        return features

    def parts(self, x: Float[Tensor, "n dim"]) -> dict[int, Float[Tensor, " n"]]:
        """α_ℓ Sum(G*_ℓ) for every level; their sum is the target."""
        return {
            level: self.hierarchy.alphas[level] * feature.square().sum(-1)
            for level, feature in self.features(x).items()
        }

    def __call__(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:
        """G*(x)."""
        return torch.stack(list(self.parts(x).values())).sum(0)

    def with_variance(self, variance: float) -> "HierarchyTarget":
        """The same function over √``variance``, still a hierarchy with the same α and connections.

        Every S*_ℓ is divided by the fourth root, so a block that reads a level ≥ 2 is multiplied by the root
        to undo what happened below it.
        """
        root = variance**0.5
        weights = {
            (level, source): block * (root if source >= LOWEST_LEVEL else 1.0) / root**0.5
            for (level, source), block in self.weights.items()
        }
        return replace(self, weights=weights)
