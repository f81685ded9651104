"""Sums and products of kernels; both keep positive semi-definiteness (Schur's theorem for the product)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from bfc_core.flops.kernels import PairFlops
from bfc_core.kernels.base import Kernel


@dataclass(frozen=True)
class SumKernel(Kernel):
    """Σ_i weights_i k_i(x, z), all weights positive."""

    terms: tuple[Kernel, ...]
    weights: tuple[float, ...]

    def block(self, x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        """The weighted sum of the terms' blocks, two of them alive at a time."""
        total = self.terms[0].block(x, z).mul_(self.weights[0])
        for term, weight in zip(self.terms[1:], self.weights[1:], strict=True):
            total.add_(term.block(x, z), alpha=weight)
        return total

    def diagonal(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The weighted sum of the diagonals."""
        total = self.terms[0].diagonal(x) * self.weights[0]
        for term, weight in zip(self.terms[1:], self.weights[1:], strict=True):
            total = total + weight * term.diagonal(x)
        return total

    def flops(self, dim: int) -> PairFlops:
        """All of the terms'."""
        return sum((term.flops(dim) for term in self.terms), start=PairFlops(0))


@dataclass(frozen=True)
class ProductKernel(Kernel):
    """∏_i k_i(x, z)."""

    factors: tuple[Kernel, ...]

    def block(self, x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        """The product of the factors' blocks, two of them alive at a time."""
        total = self.factors[0].block(x, z)
        for factor in self.factors[1:]:
            total.mul_(factor.block(x, z))
        return total

    def diagonal(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The product of the diagonals."""
        total = self.factors[0].diagonal(x)
        for factor in self.factors[1:]:
            total = total * factor.diagonal(x)
        return total

    def flops(self, dim: int) -> PairFlops:
        """All of the factors'."""
        return sum((factor.flops(dim) for factor in self.factors), start=PairFlops(0))
