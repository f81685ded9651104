"""Ridge regression on a gram: one decomposition, every ridge, leave-one-out in closed form.

For a gram K, a ridge λ and targets y the coefficients are α = (K + λI)⁻¹ y and the residual of sample i under
the fit without it is α_i / [(K + λI)⁻¹]_ii. Targets are centred with the mean of the training samples; the
mean of the fit without i is (n ȳ − y_i)/(n − 1), so with R_i(v) the residual above for targets v, exactly

    leave-one-out residual_i = R_i(y) − (n ȳ − y_i)/(n − 1) · R_i(1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.errors import KernelNotPositiveDefinite

DEFAULT_RIDGES = tuple(10.0 ** (exponent / 2) for exponent in range(-20, 9))
"""1e-10 … 1e4, two a decade, relative to the mean of the gram's diagonal.

Below, a ridge drowns in the rounding of the gram; above n (the largest possible relative eigenvalue) it shrinks
everything to the mean of the targets.
"""

TOLERANCE = 1e-3
"""Relative differences of leave-one-out errors that count as none: far below their standard error.

Towards small ridges the error is often flat over many decades; of equals the largest ridge is the best
conditioned, and a flat stretch that reaches the end of the grid is no optimum at the edge.
"""


@dataclass(frozen=True)
class RidgeSolution:
    """The path of g ridges for t targets on n samples, and the ridge that leave-one-out chose for each target.

    ``ridges`` are absolute and ascending. ``loo_mse`` is NaN where the ridge was never solved for. ``weights``
    (n, or one a feature) and ``intercept`` belong to the chosen ridges.
    """

    ridges: Float[Tensor, " g"]
    loo_mse: Float[Tensor, "g t"]
    chosen: tuple[int, ...]
    weights: Float[Tensor, "n t"]
    intercept: Float[Tensor, " t"]

    def at_edge(self, target: int) -> bool:
        """Whether the optimum lies at an end of a grid that left a choice."""
        return len(self.ridges) > 1 and self.chosen[target] in (0, len(self.ridges) - 1)


@dataclass(frozen=True)
class CentredTargets:
    """Targets with what leave-one-out needs to know of their means; t targets on n samples."""

    values: Float[Tensor, "n t"]
    mean: Float[Tensor, " t"]
    mean_without: Float[Tensor, "n t"]

    @classmethod
    def of(cls, targets: Float[Tensor, "n t"]) -> "CentredTargets":
        """Compute the means once."""
        n = targets.shape[0]
        mean = targets.mean(0)
        return cls(targets, mean, (n * mean - targets) / (n - 1))

    def right_hand_sides(self) -> Float[Tensor, "n s"]:
        """The targets and a column of ones, s = t + 1."""
        return torch.cat([self.values, torch.ones_like(self.values[:, :1])], dim=1)

    def centred_weights(self, weights: Float[Tensor, "p s"]) -> Float[Tensor, "p t"]:
        """Weights for centred targets from those of ``right_hand_sides``."""
        return weights[:, :-1] - weights[:, -1:] * self.mean

    def leave_one_out(
        self, residuals: Float[Tensor, "n s"], share_left: Float[Tensor, " n"]
    ) -> Float[Tensor, " t"]:
        """Mean squared leave-one-out residual from the residuals of a fit and 1 − leverage, up to one factor."""
        without = residuals / share_left[:, None]
        return (without[:, :-1] - self.mean_without * without[:, -1:]).square().mean(0)


def absolute_ridges(
    relative: Sequence[float] | None, mean_diagonal: float, like: Tensor
) -> Float[Tensor, " g"]:
    """Ascending absolute ridges from relative ones; ``None`` is the default grid."""
    ridges = sorted(DEFAULT_RIDGES if relative is None else relative)
    return torch.tensor(ridges, dtype=like.dtype, device=like.device) * mean_diagonal


def best_ridge(loo_mse: Float[Tensor, " g"]) -> int:
    """Index of the largest ridge whose error is within ``TOLERANCE`` of the smallest; NaN never wins.

    Raises:
        KernelNotPositiveDefinite: no ridge has a finite error.
    """
    finite = torch.where(loo_mse.isfinite(), loo_mse, torch.inf)
    least = finite.min()
    if not least.isfinite():
        raise KernelNotPositiveDefinite(
            "no ridge of the grid gives a finite leave-one-out error: the gram or the targets hold values that "
            "are not finite, or every ridge is too small for a gram of this condition"
        )
    return int((finite <= least * (1 + TOLERANCE)).nonzero().max())


def solve_by_eigendecomposition(
    gram: Float[Tensor, "n n"], targets: Float[Tensor, "n t"], ridges: Float[Tensor, " g"]
) -> RidgeSolution:
    """The whole path from one eigendecomposition of the gram.

    Raises:
        KernelNotPositiveDefinite: the gram is not finite.
    """
    if not gram.isfinite().all():
        raise KernelNotPositiveDefinite("the gram holds values that are not finite")
    values, vectors = torch.linalg.eigh(gram)
    values.clamp_min_(0.0)
    centred = CentredTargets.of(targets)
    projected = vectors.mT @ centred.right_hand_sides()
    shrunk = (values[:, None] + ridges).reciprocal_()
    inverse_diagonals = vectors.square() @ shrunk
    loo_mse = torch.stack(
        [
            centred.leave_one_out(vectors @ (shrunk[:, [g]] * projected), inverse_diagonals[:, g])
            for g in range(len(ridges))
        ]
    )
    chosen = tuple(best_ridge(errors) for errors in loo_mse.mT)
    weights = torch.stack(
        [
            centred.centred_weights(vectors @ (shrunk[:, [g]] * projected))[:, target]
            for target, g in enumerate(chosen)
        ],
        dim=1,
    )
    return RidgeSolution(ridges, loo_mse, chosen, weights, centred.mean)


def solve_by_features(
    features: Float[Tensor, "n r"], targets: Float[Tensor, "n t"], ridges: Float[Tensor, " g"]
) -> RidgeSolution:
    """The same path for K = ΦΦᵀ from one eigendecomposition of ΦᵀΦ: exact, and cheaper while r < n.

    The weights are those of the features, w = Φᵀα. With ΦᵀΦ = V D Vᵀ and P = ΦV the leverage is
    Σ_k P_ik² / (D_k + λ) and the residual y − P (D + λ)⁻¹ Pᵀ y.

    Raises:
        KernelNotPositiveDefinite: the features are not finite.
    """
    if not features.isfinite().all():
        raise KernelNotPositiveDefinite("the kernel's features hold values that are not finite")
    values, vectors = torch.linalg.eigh(features.mT @ features)
    values.clamp_min_(0.0)
    centred = CentredTargets.of(targets)
    right_hand_sides = centred.right_hand_sides()
    scores = features @ vectors
    projected = scores.mT @ right_hand_sides
    shrunk = (values[:, None] + ridges).reciprocal_()
    shares_left = (1 - scores.square() @ shrunk).clamp_min_(torch.finfo(features.dtype).eps)
    loo_mse = torch.stack(
        [
            centred.leave_one_out(right_hand_sides - scores @ (shrunk[:, [g]] * projected), shares_left[:, g])
            for g in range(len(ridges))
        ]
    )
    chosen = tuple(best_ridge(errors) for errors in loo_mse.mT)
    weights = torch.stack(
        [
            centred.centred_weights(vectors @ (shrunk[:, [g]] * projected))[:, target]
            for target, g in enumerate(chosen)
        ],
        dim=1,
    )
    return RidgeSolution(ridges, loo_mse, chosen, weights, centred.mean)
