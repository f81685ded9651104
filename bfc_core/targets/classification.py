"""Binary classification with a hierarchical margin (arXiv:2001.04413 §3).

The learner reads rows (x₀, x): x₀ ~ N(−E G*, 1) stands in column 0, x follows. The label is sgn(x₀ + G*(x)),
with Var G* = 1, so that neither summand decides alone.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.inputs import BLOCK
from bfc_core.seeding import Purpose, generator_for
from bfc_core.targets.base import Target


@dataclass(frozen=True)
class ClassificationTarget:
    """x₀ + G*(x) over rows (x₀, x); parts and features are those of G*.

    ``mean`` is E G*, ``inside`` is G* of unit variance.
    """

    inside: Target
    mean: float

    @property
    def dim(self) -> int:
        """One more than G* reads."""
        return self.inside.dim + 1

    def __call__(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:
        """The margin x₀ + G*(x)."""
        return x[:, 0] + self.inside(x[:, 1:])

    def parts(self, x: Float[Tensor, "n dim"]) -> dict[int, Float[Tensor, " n"]]:
        """The parts of G*."""
        return self.inside.parts(x[:, 1:])

    def features(self, x: Float[Tensor, "n dim"]) -> dict[int, Float[Tensor, "n k"]]:
        """The features of G*."""
        return self.inside.features(x[:, 1:])

    def rows(self, x: Float[Tensor, "n dim_inside"], seed: int, purpose: Purpose) -> Float[Tensor, "n dim"]:
        """(x₀, x) with x₀ from the seed's stream for ``purpose``; nested in n like x itself."""
        blocks = [
            torch.randn(BLOCK, generator=generator_for(seed, purpose, block), dtype=torch.float64)
            for block in range((len(x) + BLOCK - 1) // BLOCK)
        ]
        offset = torch.cat(blocks)[: len(x)] - self.mean
        return torch.cat([offset[:, None], x], 1)


def classification_of(inside: Target, x: Float[Tensor, "n dim"]) -> ClassificationTarget:
    """The classification version of a target of unit variance; E G* is measured on the rows ``x``."""
    return ClassificationTarget(inside, float(inside(x).mean()))


def labels_of(margin: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """sgn of the margin as ±1."""
    return torch.where(margin >= 0, 1.0, -1.0).to(margin.dtype)
