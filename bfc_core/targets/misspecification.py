"""A component that no function of the class can follow: Y = G*(x) + c (sin(ω⟨a, x⟩) − mean).

Under z ~ N(0, 1) the share of the energy of sin(ωz) in Hermite degree k is that of a Poisson(ω²) variable
restricted to odd k (from E[sin(ωz) He_k(z)] = ±e^{−ω²/2} ω^k). The class holds polynomials of degree ≤ 2^L
only; with ω² = 4·2^L less than 10⁻⁶ of the sine lies within their reach from L = 3 on, so that OPT is the
sine's variance. The idea of a target that is only approximately hierarchical is arXiv:2001.04413 §3
(agnostic learning); the sine is this project's choice.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.seeding import generator_for
from bfc_core.targets.base import Target


@dataclass(frozen=True)
class MisspecifiedTarget:
    """``inside`` plus the sine; parts and features are those of ``inside``."""

    inside: Target
    direction: Float[Tensor, " dim"]
    frequency: float
    amplitude: float
    mean: float

    @property
    def dim(self) -> int:
        """As inside."""
        return self.inside.dim

    def outside(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:
        """The component outside the class."""
        wave = torch.sin(self.frequency * (x @ self.direction.to(x.dtype)))
        return self.amplitude * (wave - self.mean)

    def __call__(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:
        """G*(x) and the sine."""
        return self.inside(x) + self.outside(x)

    def parts(self, x: Float[Tensor, "n dim"]) -> dict[int, Float[Tensor, " n"]]:
        """The parts inside the class."""
        return self.inside.parts(x)

    def features(self, x: Float[Tensor, "n dim"]) -> dict[int, Float[Tensor, "n k"]]:
        """The features inside the class."""
        return self.inside.features(x)


def misspecified(
    inside: Target, share: float, top: int, x: Float[Tensor, "n dim"], seed: int
) -> MisspecifiedTarget:
    """Add a sine with ``share`` of the variance of the sum; ``x`` are the normalisation rows, ``top`` is L."""
    generator = generator_for(seed, "misspecification")
    direction = torch.randn(inside.dim, generator=generator, dtype=torch.float64)
    direction = direction / (x @ direction).std()
    frequency = math.sqrt(4 * 2**top)
    wave = torch.sin(frequency * (x @ direction))
    amplitude = math.sqrt(share / (1 - share) * float(inside(x).var()) / float(wave.var()))
    return MisspecifiedTarget(inside, direction, frequency, amplitude, float(wave.mean()))
