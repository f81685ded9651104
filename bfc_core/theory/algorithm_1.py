"""Thresholds and λ of Algorithm 1 as formulas of d, α, k and C, each with a free prefactor.

Source: arXiv:2001.04413 §4 and Theorem 1. Only their order in d and α is meaningful: the constants of the
general case (its appendix) are far outside what can be computed with, hence the prefactors.
"""

from dataclasses import dataclass

from bfc_core.specs.learners import ExactMode
from bfc_core.specs.targets import LOWEST_LEVEL, Hierarchy


@dataclass(frozen=True)
class ExactConstants:
    """What Algorithm 1 compares with and weighs by, for one hierarchy, dim and mode."""

    hierarchy: Hierarchy
    dim: int
    mode: ExactMode

    def activation(self, level: int) -> float:
        """Thres△_ℓ = c · α_{ℓ−1}² / d^{1/(3C^{ℓ−1})}; level 2 would need α_1 and begins at once."""
        if level == LOWEST_LEVEL:
            return float("inf")
        below = level - 1
        return self.mode.activation_prefactor * self._order(below, 3)

    def distillation(self, level: int) -> float:
        """Thres▽_ℓ = c · α_ℓ² / d^{1/(6C^ℓ)}."""
        return self.mode.distillation_prefactor * self._order(level, 6)

    def ties(self, level: int, prefactors: tuple[float, float, float]) -> tuple[float, float, float]:
        """λ₃, λ₄, λ₅ = prefactors · α_ℓ² / d^{1/(6C^ℓ)}, d^{1/(3C^ℓ)}, d^{1/(2C^ℓ)}."""
        lambda_3, lambda_4, lambda_5 = prefactors
        return (
            lambda_3 * self._order(level, 6),
            lambda_4 * self._order(level, 3),
            lambda_5 * self._order(level, 2),
        )

    def norm(self, level: int, epsilon: float) -> float:
        """λ₆ as the level begins: c · ε₀² / (k̄_ℓ L κ)⁸, k̄_ℓ the larger of k_ℓ and what level ℓ reads."""
        widths = [self._width(source) for source in self.hierarchy.connections[level]]
        widest = max(self.hierarchy.widths[level], *widths)
        scale: float = (widest * self.hierarchy.top * self.mode.kappa) ** 8
        return self.mode.norm_prefactor * epsilon**2 / scale

    @property
    def rank_threshold(self) -> float:
        """Singular values of at least 1/(10κ²) count towards k_ℓ."""
        return 1 / (10 * self.mode.kappa**2)

    def _order(self, level: int, divisor: int) -> float:
        exponent: float = 1 / (divisor * self.mode.gap_exponent**level)
        order: float = self.hierarchy.alphas[level] ** 2 / self.dim**exponent
        return order

    def _width(self, source: int) -> int:
        return self.hierarchy.widths[source] if source >= LOWEST_LEVEL else 1
