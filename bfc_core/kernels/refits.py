"""The choice of ``ridge`` for many samples: a few exact refits instead of one eigendecomposition.

A Cholesky factor and the diagonal of its inverse take 2/3 n³ operations and run at the speed of matrix
products; an eigendecomposition takes ten times as long (docs/decisions/0002-ridge-by-refits.md). So the path is
bracketed on a subsample, where an eigendecomposition is cheap, and then walked downhill over the same grid with
the exact error of all n samples. What differs from ``ridge.solve_by_eigendecomposition``: ridges far from the
optimum are never solved for, and of several local optima the one next to the subsample's is taken.

Every refit happens in the memory of the gram: the factor takes the lower triangle, the upper one restores it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.errors import KernelNotPositiveDefinite
from bfc_core.kernel_cost import SUBSAMPLE
from bfc_core.kernels.base import Kernel
from bfc_core.kernels.cholesky import (
    factor_in_place,
    factor_with_jitter,
    inverse_diagonal,
    restore_in_place,
    solve_with_factor,
)
from bfc_core.kernels.ridge import (
    TOLERANCE,
    CentredTargets,
    Criterion,
    RidgeSolution,
    ValidationPath,
    absolute_ridges,
    best_ridge,
    solve_by_eigendecomposition,
)

Advanced = Callable[[], None]


def subsample_rows(n: int, size: int) -> Tensor:
    """``size`` evenly spaced row indices of n: any order of the samples, sorted ones too, is represented."""
    return torch.arange(size) * n // size


def solve_by_refits(
    kernel: Kernel,
    x: Float[Tensor, "n d"],
    targets: Float[Tensor, "n t"],
    relative: Sequence[float] | None,
    advanced: Advanced,
    criterion: Criterion = "leave_one_out",
    alive: Advanced = lambda: None,
) -> RidgeSolution:
    """Choice over the grid by refits.

    ``advanced`` is called after every solved system and ``alive`` often within one; either may raise to stop.

    Raises:
        KernelNotPositiveDefinite: no ridge of the grid makes the gram positive definite.
    """
    n = x.shape[0]
    rows = subsample_rows(n, min(n, SUBSAMPLE)).to(x.device)
    gram = kernel.gram(x[rows])
    coarse = solve_by_eigendecomposition(
        gram, targets[rows], absolute_ridges(relative, float(gram.diagonal().mean()), gram), criterion
    )
    del gram
    advanced()
    starts = coarse.chosen
    if n >= 4 * SUBSAMPLE:
        # The optimum drifts with n; a system of half the size costs an eighth of a step in the wrong direction.
        rows = subsample_rows(n, n // 2).to(x.device)
        half = _Refits(kernel.gram(x[rows]), targets[rows], relative, criterion, advanced, alive)
        starts = half.walked(starts).chosen
        del half
    return _Refits(kernel.gram(x), targets, relative, criterion, advanced, alive).walked(starts)


def solve_each(
    gram: Float[Tensor, "n n"],
    targets: Float[Tensor, "n t"],
    relative: Sequence[float],
    advanced: Advanced,
    criterion: Criterion = "leave_one_out",
    alive: Advanced = lambda: None,
) -> RidgeSolution:
    """One refit for every ridge, cheaper than an eigendecomposition while they are few; the gram is consumed.

    Where no ridge can be solved for, the largest is tried again with a jitter, which the solution reports.

    Raises:
        KernelNotPositiveDefinite: the jitter did not help either, or values are not finite.
    """
    return _Refits(gram, targets, relative, criterion, advanced, alive).each()


@dataclass(frozen=True)
class _Solved:
    errors: Float[Tensor, " t"]
    loo_mse: Float[Tensor, " t"]
    gcv: Float[Tensor, " t"]
    weights: Float[Tensor, "n t"]


class _Refits:
    """A grid of ridges on one gram; every ridge is solved for at most once, for all targets together."""

    def __init__(
        self,
        gram: Float[Tensor, "n n"],
        targets: Float[Tensor, "n t"],
        relative: Sequence[float] | None,
        criterion: Criterion,
        advanced: Advanced,
        alive: Advanced,
    ) -> None:
        self._matrix = gram
        self._diagonal = gram.diagonal().clone()
        self._is_factor = False
        self._centred = CentredTargets.of(targets)
        self._scale = float(self._diagonal.mean())
        self._ridges = absolute_ridges(relative, self._scale, gram)
        self._criterion: Criterion = criterion
        self._advanced, self._alive = advanced, alive
        self._solved: dict[int, _Solved] = {}
        self._jitter = 0.0

    def walked(self, starts: Sequence[int]) -> RidgeSolution:
        """Walk from ``starts``, one a target, until neither neighbour of the best ridge is better."""
        for target, start in enumerate(starts):
            self._walk(target, start)
        return self._solution()

    def each(self) -> RidgeSolution:
        """Solve for every ridge, and for the largest with a jitter if none can be solved for."""
        for index in range(len(self._ridges)):
            self._error(index, 0)
        if not any(bool(solved.errors.isfinite().any()) for solved in self._solved.values()):
            last = len(self._ridges) - 1
            self._solved[last] = self._solve(float(self._ridges[last]), may_jitter=True)
        return self._solution()

    def _solution(self) -> RidgeSolution:
        count = self._centred.values.shape[1]
        loo_mse, gcv, errors = torch.full(
            (3, len(self._ridges), count), torch.nan, dtype=self._matrix.dtype, device=self._matrix.device
        )
        for index, solved in self._solved.items():
            loo_mse[index], gcv[index], errors[index] = solved.loo_mse, solved.gcv, solved.errors
        chosen = tuple(best_ridge(column) for column in errors.mT)
        weights = torch.stack(
            [self._solved[index].weights[:, target] for target, index in enumerate(chosen)], dim=1
        )
        return RidgeSolution(self._ridges, loo_mse, chosen, weights, self._centred.mean, gcv, self._jitter)

    def _walk(self, target: int, start: int) -> None:
        """Solve upwards while the error does not grow, then downwards while it shrinks, by ``TOLERANCE``."""
        least, index = self._error(start, target), start
        while index + 1 < len(self._ridges):
            index += 1
            error = self._error(index, target)
            if error > least * (1 + TOLERANCE):
                break
            least = min(least, error)
        if least < self._error(start, target):
            return
        index = start
        while index > 0:
            index -= 1
            error = self._error(index, target)
            if not error < least * (1 - TOLERANCE):
                break
            least = error

    def _error(self, index: int, target: int) -> float:
        if index not in self._solved:
            self._solved[index] = self._solve(float(self._ridges[index]))
            self._advanced()
        return float(self._solved[index].errors[target])

    def _solve(self, ridge: float, *, may_jitter: bool = False) -> _Solved:
        if self._is_factor:
            restore_in_place(self._matrix, self._diagonal + ridge)
        else:
            self._matrix.diagonal().add_(ridge)
        self._is_factor = True
        try:
            if may_jitter:
                factor, self._jitter = factor_with_jitter(self._matrix, self._alive)
            else:
                factor = factor_in_place(self._matrix, self._alive)
        except KernelNotPositiveDefinite:
            if may_jitter:
                raise
            # Too small a ridge for this gram's rounding: the walk turns towards larger ones.
            infinite = torch.full_like(self._centred.mean, torch.inf)
            return _Solved(infinite, infinite, infinite, torch.full_like(self._centred.values, torch.nan))
        coefficients = solve_with_factor(factor, self._centred.right_hand_sides())
        path = ValidationPath(1, self._centred)
        shares = inverse_diagonal(factor, self._alive)[:, None]
        # In units of the gram: GCV squares a trace, and a gram of any size shall have one.
        path.add(slice(None), slice(0, 1), coefficients[:, None, :] * self._scale, shares * self._scale)
        weights = self._centred.centred_weights(coefficients)
        return _Solved(path.errors(self._criterion)[0], path.loo_mse()[0], path.gcv()[0], weights)
