"""The polynomial kernel and its explicit monomial features."""

from collections import Counter
from functools import lru_cache
from itertools import combinations_with_replacement
from math import factorial, prod, sqrt
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bfc_core.kernel_cost import polynomial_rank
from bfc_core.kernels.base import FiniteRankKernel


class PolynomialKernel(FiniteRankKernel):
    """k(x, z) = (offset + x·z / d)^degree, or (offset + x·z)^degree where ``inner_product`` is "sum"."""

    def __init__(
        self, degree: int, offset: float = 1.0, inner_product: Literal["mean", "sum"] = "mean"
    ) -> None:
        self.degree = degree
        self.offset = offset
        self.inner_product = inner_product

    def block(self, x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        """(offset + x·z / d)^degree."""
        return torch.mm(x, z.mT).div_(self._divisor(x)).add_(self.offset).pow_(self.degree)

    def diagonal(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """(offset + ‖x‖² / d)^degree."""
        return x.square().sum(1).div_(self._divisor(x)).add_(self.offset).pow_(self.degree)

    def rank(self, dim: int) -> int:
        """C(dim + degree, degree), or C(dim + degree − 1, degree) without offset (homogeneous monomials)."""
        return polynomial_rank(dim, self.degree, self.offset)

    def features(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n r"]:
        """Monomials of (√offset, x/√d) (or x itself), each times the root of its multinomial coefficient."""
        variables = x / sqrt(self._divisor(x))
        if self.offset > 0:
            constant = torch.full_like(x[:, :1], sqrt(self.offset))
            variables = torch.cat([constant, variables], dim=1)
        factors, coefficients = _monomials(variables.shape[1], self.degree)
        factors, coefficients = factors.to(x.device), coefficients.to(x)
        features = variables[:, factors[:, 0]]
        for position in range(1, self.degree):
            features *= variables[:, factors[:, position]]
        return features.mul_(coefficients)

    def _divisor(self, x: Float[Tensor, "n d"]) -> int:
        return x.shape[1] if self.inner_product == "mean" else 1


@lru_cache(maxsize=8)
def _monomials(variables: int, degree: int) -> tuple[Int[Tensor, "r degree"], Float[Tensor, " r"]]:
    """Every monomial as the indices of its factors, and the root of its multinomial coefficient."""
    monomials = list(combinations_with_replacement(range(variables), degree))
    coefficients = [
        factorial(degree) / prod(factorial(power) for power in Counter(monomial).values())
        for monomial in monomials
    ]
    return torch.tensor(monomials), torch.tensor(coefficients, dtype=torch.float64).sqrt_()
