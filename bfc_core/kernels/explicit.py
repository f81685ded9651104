"""A kernel given by explicit features, and two families of them: random neurons, products of Hermite polynomials."""

from collections.abc import Callable
from functools import lru_cache
from itertools import combinations_with_replacement
from math import pi, sqrt
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bfc_core.flops.kernels import FeatureFlops, PairFlops
from bfc_core.kernels.base import FiniteRankKernel

FeatureFunction = Callable[[Tensor], Tensor]


class ExplicitKernel(FiniteRankKernel):
    """k(x, z) = Φ(x) · Φ(z) for a function Φ from (n, d) to (n, count), of which a row costs ``row_flops``."""

    def __init__(self, function: FeatureFunction, count: int, row_flops: int = 0) -> None:
        self.function = function
        self.count = count
        self.row_flops = row_flops

    def block(self, x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        """Φ(x) Φ(z)ᵀ."""
        return self.function(x) @ self.function(z).mT

    def diagonal(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """‖Φ(x)‖²."""
        return self.function(x).square().sum(1)

    def gram(self, x: Float[Tensor, "n d"], z: Float[Tensor, "m d"] | None = None) -> Float[Tensor, "n m"]:
        """The features once, then one product."""
        features = self.function(x)
        if z is None or z is x:
            gram = features @ features.mT
            return gram.add_(gram.mT.clone()).mul_(0.5)
        return features @ self.function(z).mT

    def flops(self, dim: int) -> PairFlops:  # noqa: ARG002 - the features know their cost
        """Those of the features' product, and what the features of a row cost."""
        return FeatureFlops(2 * self.count, row=self.row_flops, diagonal=self.row_flops)

    def rank(self, dim: int) -> int:  # noqa: ARG002 - the features know their number
        """Number of features."""
        return self.count

    def features(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n r"]:
        """Φ(x)."""
        return self.function(x)


def relu_features(dim: int, count: int, generator: torch.Generator) -> FeatureFunction:
    """√(2/count) ReLU((w·x + b)/√(d + 1)), w and b standard normal."""
    weights = torch.randn(dim + 1, count, generator=generator, dtype=torch.float64) / sqrt(dim + 1)

    def features(x: Tensor) -> Tensor:
        return torch.addmm(weights[-1], x, weights[:-1]).clamp_min_(0.0).mul_(sqrt(2 / count))

    return features


def fourier_features(dim: int, count: int, bandwidth: float, generator: torch.Generator) -> FeatureFunction:
    """√(2/count) cos(w·x + b), w ~ N(0, I / (bandwidth² d)), b uniform: their kernel tends to the RBF's."""
    weights = torch.randn(dim, count, generator=generator, dtype=torch.float64) / (bandwidth * sqrt(dim))
    shifts = 2 * pi * torch.rand(count, generator=generator, dtype=torch.float64)

    def features(x: Tensor) -> Tensor:
        return torch.addmm(shifts, x, weights).cos_().mul_(sqrt(2 / count))

    return features


def product_features(
    dim: int, degree: int, basis: Literal["monomial", "hermite"]
) -> tuple[FeatureFunction, int]:
    """∏_i p_{k_i}(x_i) for all exponents with 1 ≤ Σ k_i ≤ degree, and their number.

    p_k is x^k, or the probabilists' Hermite polynomial He_k / √k!, which is orthonormal under N(0, 1).
    """
    factors = _factors(dim, degree)

    def features(x: Tensor) -> Tensor:
        powers = _univariate(x, degree, basis)
        # One column of ones stands for "no factor": every product then has `degree` factors.
        table = torch.cat([torch.ones_like(x[:, :1]), powers.flatten(1)], dim=1)
        found = table[:, factors[0]]
        for position in range(1, degree):
            found.mul_(table[:, factors[position]])
        return found

    return features, factors.shape[1]


def _univariate(
    x: Float[Tensor, "n d"], degree: int, basis: Literal["monomial", "hermite"]
) -> Float[Tensor, "n degree d"]:
    """p_1(x) … p_degree(x)."""
    powers = [torch.ones_like(x), x]
    for k in range(1, degree):
        # He_{k+1} = x He_k − k He_{k−1}; normalised at the end.
        powers.append(x * powers[-1] - (k * powers[-2] if basis == "hermite" else 0.0))
    if basis == "hermite":
        scale = 1.0
        for k in range(2, degree + 1):
            scale *= sqrt(k)
            powers[k] = powers[k] / scale
    return torch.stack(powers[1:], dim=1)


@lru_cache(maxsize=8)
def _factors(dim: int, degree: int) -> Int[Tensor, "degree r"]:
    """Per product the columns of ``table`` whose product it is, padded with column 0."""
    products: list[list[int]] = []
    for total in range(1, degree + 1):
        for variables in combinations_with_replacement(range(dim), total):
            columns = [
                1 + (variables.count(variable) - 1) * dim + variable for variable in sorted(set(variables))
            ]
            products.append(columns + [0] * (degree - len(columns)))
    return torch.tensor(products).mT.contiguous()
