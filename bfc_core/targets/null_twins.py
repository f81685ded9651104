"""Null twins: the lowest level as it is, the hierarchy above it destroyed.

Where backward correction is claimed, training what stands above must improve level 2 because it is a
function of level 2. In a twin it is none: with ``alpha_zero`` there is nothing above; with
``random_polynomial`` the part of every level above is replaced by

    P_ℓ(x) = a + b · T^{−1/2} Σ_{t ≤ T} Π_{i ≤ 2^ℓ} ⟨v_{t,i}, x⟩,

a polynomial of the same degree 2^ℓ in random unit directions, with a and b such that mean and variance are
those of the part that it replaces. Every separation that is claimed for the hierarchy must vanish here
(the catalogue's rule; the construction is this project's).
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.seeding import generator_for
from bfc_core.specs import LOWEST_LEVEL
from bfc_core.targets.hierarchy import HierarchyTarget

TERMS = 256
"""T: enough for the tails not to be those of a single product, whose kurtosis is 3^(2^ℓ)."""

NullTwin = Literal["alpha_zero", "random_polynomial"]


@dataclass(frozen=True)
class RandomPolynomial:
    """a + b T^{−1/2} Σ_t Π_i ⟨v_{t,i}, x⟩.

    Letters: g the degree, t terms.
    """

    directions: Float[Tensor, "g t dim"]
    shift: float
    scale: float

    def __call__(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:
        """P(x)."""
        total = x.new_ones(len(x), self.directions.shape[1])
        for factor in self.directions.to(x.dtype):
            total = total * (x @ factor.mT)
        terms = self.directions.shape[1]
        return self.shift + self.scale / math.sqrt(terms) * total.sum(1)


@dataclass(frozen=True)
class RandomPolynomialTwin:
    """The lowest level of a hierarchy with random polynomials in place of the parts above it."""

    lowest: HierarchyTarget
    above: dict[int, RandomPolynomial]

    @property
    def dim(self) -> int:
        """As the hierarchy."""
        return self.lowest.dim

    def __call__(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:
        """The sum of the parts."""
        return torch.stack(list(self.parts(x).values())).sum(0)

    def parts(self, x: Float[Tensor, "n dim"]) -> dict[int, Float[Tensor, " n"]]:
        """The hierarchy's own lowest part, then the polynomials."""
        return self.lowest.parts(x) | {level: part(x) for level, part in self.above.items()}

    def features(self, x: Float[Tensor, "n dim"]) -> dict[int, Float[Tensor, "n k"]]:
        """Of the lowest level only: nothing above has any."""
        return self.lowest.features(x)


def null_twin_of(
    target: HierarchyTarget, twin: NullTwin, x: Float[Tensor, "n dim"], seed: int
) -> HierarchyTarget | RandomPolynomialTwin:
    """The named twin; ``x`` are the normalisation rows, on which mean and variance are matched."""
    hierarchy = target.hierarchy
    silent = {level: alpha * (level == LOWEST_LEVEL) for level, alpha in hierarchy.alphas.items()}
    if twin == "alpha_zero":
        return replace(target, hierarchy=replace(hierarchy, alphas=silent))
    alone = replace(
        hierarchy,
        widths={LOWEST_LEVEL: hierarchy.widths[LOWEST_LEVEL]},
        alphas={LOWEST_LEVEL: hierarchy.alphas[LOWEST_LEVEL]},
        connections={LOWEST_LEVEL: hierarchy.connections[LOWEST_LEVEL]},
    )
    lowest = HierarchyTarget(
        target.dim,
        alone,
        {place: block for place, block in target.weights.items() if place[0] == LOWEST_LEVEL},
    )
    parts = target.parts(x)
    above = {
        level: _matched(parts[level], 2**level, x, seed) for level in hierarchy.levels if level > LOWEST_LEVEL
    }
    return RandomPolynomialTwin(lowest, above)


def _matched(
    part: Float[Tensor, " n"], degree: int, x: Float[Tensor, "n dim"], seed: int
) -> RandomPolynomial:
    # The degree numbers the block of the stream, so that one level does not depend on another.
    generator = generator_for(seed, "twin", degree)
    directions = torch.randn(degree, TERMS, x.shape[1], generator=generator, dtype=torch.float64)
    directions = directions / torch.linalg.vector_norm(directions, dim=2, keepdim=True)
    plain = RandomPolynomial(directions, 0.0, 1.0)(x)
    scale = float(part.std() / plain.std())
    return RandomPolynomial(directions, float(part.mean() - scale * plain.mean()), scale)
