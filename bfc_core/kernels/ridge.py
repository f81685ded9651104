"""Ridge regression on a gram: one decomposition, every ridge and target, leave-one-out and GCV in closed form.

For a gram K, a ridge λ and targets y the coefficients are α = (K + λI)⁻¹ y and the residual of sample i under
the fit without it is α_i / [(K + λI)⁻¹]_ii. Targets are centred with the mean of the training samples; the
mean of the fit without i is (n ȳ − y_i)/(n − 1), so with R_i(v) the residual above for targets v, exactly

    leave-one-out residual_i = R_i(y) − (n ȳ − y_i)/(n − 1) · R_i(1).

Generalised cross-validation (Golub, Heath and Wahba, 1979) replaces every leverage by their mean: with S the
matrix from targets to fitted values it is n ‖(I − S) y‖² / tr(I − S)². Without centring that is
n ‖α‖² / (tr (K + λI)⁻¹)²; centring takes 1ᵀ(K + λI)⁻¹1 / n from the trace.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.errors import KernelNotFinite, KernelNotPositiveDefinite
from bfc_core.kernel_cost import BLOCK_ROWS

Criterion = Literal["leave_one_out", "gcv"]
FeatureBlocks = Callable[[], Iterable[Tensor]]
"""Calling it gives the rows of a feature matrix from the first to the last, a block at a time, anew every time."""

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

UNRESOLVED = 1e4
"""Units of rounding: a mean of 1 − leverage below them has less than four digits."""

COLUMNS = 256
"""Columns (ridges times targets) of one product with the eigenvectors."""


@dataclass(frozen=True)
class RidgeSolution:
    """The path of g ridges for t targets on n samples, and the ridge that was chosen for each target.

    ``ridges`` are absolute and ascending. ``loo_mse`` and ``gcv`` are NaN where the ridge was never solved for.
    ``weights`` (n, or one a feature) and ``intercept`` belong to the chosen ridges. ``jitter`` is what had to be
    added to the gram's diagonal, beyond the ridge, before it could be factored.
    """

    ridges: Float[Tensor, " g"]
    loo_mse: Float[Tensor, "g t"]
    chosen: tuple[int, ...]
    weights: Float[Tensor, "n t"]
    intercept: Float[Tensor, " t"]
    gcv: Float[Tensor, "g t"]
    jitter: float = 0.0

    def at_edge(self, target: int) -> bool:
        """Whether the optimum lies at an end of a grid that left a choice."""
        return len(self.ridges) > 1 and self.chosen[target] in (0, len(self.ridges) - 1)


@dataclass(frozen=True)
class CentredTargets:
    """Targets with what leave-one-out needs to know of their means; t targets on n samples.

    Without an intercept the means count as zero, and what is written above about centring falls away.
    """

    values: Float[Tensor, "n t"]
    mean: Float[Tensor, " t"]
    mean_without: Float[Tensor, "n t"]
    has_intercept: bool

    @classmethod
    def of(cls, targets: Float[Tensor, "n t"], *, intercept: bool = True) -> "CentredTargets":
        """Compute the means once."""
        if not intercept:
            return cls(targets, torch.zeros_like(targets[0]), torch.zeros_like(targets), has_intercept=False)
        n = targets.shape[0]
        mean = targets.mean(0)
        return cls(targets, mean, (n * mean - targets) / (n - 1), has_intercept=True)

    def right_hand_sides(self) -> Float[Tensor, "n s"]:
        """The targets and a column of ones, s = t + 1."""
        return torch.cat([self.values, torch.ones_like(self.values[:, :1])], dim=1)

    def centred_weights(self, weights: Float[Tensor, "p s"]) -> Float[Tensor, "p t"]:
        """Weights for centred targets from those of ``right_hand_sides``."""
        return weights[:, :-1] - weights[:, -1:] * self.mean


class ValidationPath:
    """Leave-one-out and GCV errors of g ridges for t targets, summed over blocks of samples and ridges.

    Both need the residuals of a fit to ``right_hand_sides`` and 1 − leverage, each up to the same factor:
    α and diag (K + λI)⁻¹ do, and so do y − f̂ and 1 − diag S.
    """

    def __init__(self, ridges: int, centred: CentredTargets) -> None:
        self._centred = centred
        empty = torch.zeros(
            ridges, centred.values.shape[1], dtype=centred.values.dtype, device=centred.mean.device
        )
        self._left_out, self._squares = empty, torch.zeros_like(empty)
        self._shares, self._ones = torch.zeros_like(empty[:, 0]), torch.zeros_like(empty[:, 0])

    def add(
        self, rows: slice, ridges: slice, residuals: Float[Tensor, "b h s"], shares_left: Float[Tensor, "b h"]
    ) -> None:
        """Residuals and shares of b samples (``rows``) under h ridges."""
        without = residuals / shares_left[:, :, None]
        errors = without[:, :, :-1] - self._centred.mean_without[rows, None, :] * without[:, :, -1:]
        self._left_out[ridges] += errors.square_().sum(0)
        fitted = residuals[:, :, :-1] - self._centred.mean * residuals[:, :, -1:]
        self._squares[ridges] += fitted.square_().sum(0)
        self._shares[ridges] += shares_left.sum(0)
        self._ones[ridges] += residuals[:, :, -1].sum(0)

    def loo_mse(self) -> Float[Tensor, "g t"]:
        """Mean squared leave-one-out residual."""
        return self._left_out / len(self._centred.values)

    def gcv(self) -> Float[Tensor, "g t"]:
        """Generalised cross-validation."""
        n = len(self._centred.values)
        trace = self._shares - self._ones / n if self._centred.has_intercept else self._shares
        return n * self._squares / trace.square()[:, None]

    def errors(self, criterion: Criterion) -> Float[Tensor, "g t"]:
        """What the ridge is chosen by."""
        return self.loo_mse() if criterion == "leave_one_out" else self.gcv()

    def resolved_errors(self, criterion: Criterion) -> Float[Tensor, "g t"]:
        """The same, infinite where 1 − leverage, taken as a difference, is mostly rounding: such a fit interpolates.

        Its quotients of rounding by rounding may be small by chance. If no ridge is better, all count.
        """
        errors = self.errors(criterion)
        shares = self._shares / len(self._centred.values)
        unresolved = shares < UNRESOLVED * torch.finfo(shares.dtype).eps
        if bool(unresolved.all()):
            return errors
        return errors.masked_fill(unresolved[:, None], torch.inf)


def absolute_ridges(
    relative: Sequence[float] | None, mean_diagonal: float, like: Tensor
) -> Float[Tensor, " g"]:
    """Ascending absolute ridges from relative ones; ``None`` is the default grid."""
    ridges = sorted(DEFAULT_RIDGES if relative is None else relative)
    return torch.tensor(ridges, dtype=like.dtype, device=like.device) * scale_of(mean_diagonal)


def scale_of(mean_diagonal: float) -> float:
    """What ridges are relative to: of a gram of zeros, whose fit is the mean of the targets under any ridge, 1."""
    return mean_diagonal or 1.0


def best_ridge(errors: Float[Tensor, " g"]) -> int:
    """Index of the largest ridge whose error is within ``TOLERANCE`` of the smallest; NaN never wins.

    Raises:
        KernelNotPositiveDefinite: no ridge has a finite error.
    """
    finite = torch.where(errors.isfinite(), errors, torch.inf)
    least = finite.min()
    if not least.isfinite():
        raise KernelNotPositiveDefinite(
            "no ridge of the grid gives a finite validation error: the gram or the targets hold values that are not "
            "finite, or every ridge is too small for a gram of this condition; try larger ridges"
        )
    return int((finite <= least * (1 + TOLERANCE)).nonzero().max())


@dataclass(frozen=True)
class Eigendecomposition:
    """A gram's eigenvalues, those below zero set to zero, and its eigenvectors in columns."""

    values: Float[Tensor, " n"]
    vectors: Float[Tensor, "n n"]

    @classmethod
    def of(cls, gram: Float[Tensor, "n n"]) -> "Eigendecomposition":
        """Decompose.

        Raises:
            KernelNotPositiveDefinite: the gram is not finite.
        """
        if not gram.isfinite().all():
            raise KernelNotFinite("the gram holds values that are not finite")
        values, vectors = torch.linalg.eigh(gram)
        return cls(values.clamp_min_(0.0), vectors)


def solve_by_eigendecomposition(
    gram: Float[Tensor, "n n"] | Eigendecomposition,
    targets: Float[Tensor, "n t"],
    ridges: Float[Tensor, " g"],
    criterion: Criterion = "leave_one_out",
    *,
    intercept: bool = True,
) -> RidgeSolution:
    """The whole path for all targets from one eigendecomposition of the gram; the gram may come decomposed.

    Raises:
        KernelNotPositiveDefinite: the gram is not finite.
    """
    decomposed = gram if isinstance(gram, Eigendecomposition) else Eigendecomposition.of(gram)
    vectors = decomposed.vectors
    centred = CentredTargets.of(targets, intercept=intercept)
    projected = vectors.mT @ centred.right_hand_sides()
    # 1/(D + λ) in units of its largest: GCV squares a trace, and a gram of any size shall have one.
    shrunk = (decomposed.values.min() + ridges) / (decomposed.values[:, None] + ridges)
    path = ValidationPath(len(ridges), centred)
    for rows in _slices(len(targets), BLOCK_ROWS):
        shares = vectors[rows].square() @ shrunk
        for some in _ridges_at_once(len(ridges), projected.shape[1]):
            # All targets under several ridges in one matrix product: (b, n) by (n, h · s).
            together = (shrunk[:, some, None] * projected[:, None, :]).flatten(1)
            coefficients = (vectors[rows] @ together).reshape(len(shares), -1, projected.shape[1])
            path.add(rows, some, coefficients, shares[:, some])
    chosen, weights = _chosen_weights(path.errors(criterion), ridges, centred, decomposed, projected)
    return RidgeSolution(ridges, path.loo_mse(), chosen, weights, centred.mean, path.gcv())


def solve_by_features(
    features: Float[Tensor, "n r"],
    targets: Float[Tensor, "n t"],
    ridges: Float[Tensor, " g"],
    criterion: Criterion = "leave_one_out",
    *,
    intercept: bool = True,
) -> RidgeSolution:
    """The same path for K = ΦΦᵀ from one eigendecomposition of ΦᵀΦ: exact, and cheaper while r < n.

    Raises:
        KernelNotPositiveDefinite: the features are not finite.
    """
    return solve_by_feature_blocks(lambda: [features], targets, ridges, criterion, intercept=intercept)


def solve_by_feature_blocks(
    blocks: FeatureBlocks,
    targets: Float[Tensor, "n t"],
    ridges: Float[Tensor, " g"],
    criterion: Criterion = "leave_one_out",
    *,
    intercept: bool = True,
) -> RidgeSolution:
    """``solve_by_features`` in two passes over blocks of rows: no more than r × r and one block is ever held.

    The weights are those of the features, w = Φᵀα. With ΦᵀΦ = V D Vᵀ and P = ΦV the leverage is
    Σ_k P_ik² / (D_k + λ) and the residual y − P (D + λ)⁻¹ Pᵀ y.

    Raises:
        KernelNotPositiveDefinite: the features are not finite.
    """
    centred = CentredTargets.of(targets, intercept=intercept)
    right_hand_sides = centred.right_hand_sides()
    square, moments = _second_moments(blocks, right_hand_sides)
    if not (square.isfinite().all() and moments.isfinite().all()):
        raise KernelNotFinite("the kernel's features or the targets hold values that are not finite")
    decomposed = Eigendecomposition.of(square)
    del square
    vectors = decomposed.vectors
    projected = vectors.mT @ moments
    shrunk = (decomposed.values[:, None] + ridges).reciprocal_()
    path = ValidationPath(len(ridges), centred)
    least_share = torch.finfo(targets.dtype).eps
    for rows, block in _numbered(blocks()):
        scores = block @ vectors
        for some in _ridges_at_once(len(ridges), projected.shape[1]):
            together = (shrunk[:, some, None] * projected[:, None, :]).flatten(1)
            fitted = (scores @ together).reshape(len(scores), -1, projected.shape[1])
            path.add(
                rows,
                some,
                right_hand_sides[rows, None, :] - fitted,
                _shares(scores, shrunk[:, some], least_share),
            )
    chosen, weights = _chosen_weights(path.resolved_errors(criterion), ridges, centred, decomposed, projected)
    return RidgeSolution(ridges, path.loo_mse(), chosen, weights, centred.mean, path.gcv())


def _chosen_weights(
    errors: Float[Tensor, "g t"],
    ridges: Float[Tensor, " g"],
    centred: CentredTargets,
    decomposed: Eigendecomposition,
    projected: Float[Tensor, "p s"],
) -> tuple[tuple[int, ...], Float[Tensor, "n t"]]:
    """The best ridge of every target, and its weights."""
    chosen = tuple(best_ridge(column) for column in errors.mT)
    own = decomposed.values[:, None] + ridges[list(chosen)]
    return chosen, decomposed.vectors @ ((projected[:, :-1] - centred.mean * projected[:, -1:]) / own)


def _second_moments(
    blocks: FeatureBlocks, right_hand_sides: Float[Tensor, "n s"]
) -> tuple[Float[Tensor, "r r"], Float[Tensor, "r s"]]:
    """ΦᵀΦ and Φᵀy."""
    square = moments = None
    for rows, block in _numbered(blocks()):
        if square is None or moments is None:
            square, moments = block.mT @ block, block.mT @ right_hand_sides[rows]
        else:
            square.addmm_(block.mT, block)
            moments.addmm_(block.mT, right_hand_sides[rows])
    assert square is not None
    assert moments is not None
    return square, moments


def _shares(scores: Float[Tensor, "b p"], shrunk: Float[Tensor, "p h"], least: float) -> Float[Tensor, "b h"]:
    """1 − leverage; rounding must not make it zero where the fit interpolates."""
    return (1 - scores.square() @ shrunk).clamp_min_(least)


def _numbered(blocks: Iterable[Tensor]) -> Iterable[tuple[slice, Tensor]]:
    start = 0
    for block in blocks:
        yield slice(start, start + len(block)), block
        start += len(block)


def _slices(n: int, size: int) -> Iterable[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def _ridges_at_once(ridges: int, columns: int) -> Iterable[slice]:
    return _slices(ridges, max(1, COLUMNS // columns))
