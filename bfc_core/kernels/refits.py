"""The leave-one-out choice of ``ridge`` for many samples: a few exact refits instead of one eigendecomposition.

A Cholesky factor and the diagonal of its inverse take 2/3 n³ multiply-adds and run at the speed of matrix
products; an eigendecomposition takes ten times as long (docs/decisions/0002-ridge-by-refits.md). So the path is
bracketed on a subsample, where an eigendecomposition is cheap, and then walked downhill over the same grid with
the exact leave-one-out error of all n samples. What differs from ``ridge.solve_by_eigendecomposition``: ridges far
from the optimum are never solved for, and of several local optima the one next to the subsample's is taken.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.errors import KernelNotPositiveDefinite
from bfc_core.kernel_cost import SUBSAMPLE
from bfc_core.kernels.base import Kernel
from bfc_core.kernels.cholesky import factor_in_place, inverse_diagonal, solve_with_factor
from bfc_core.kernels.ridge import (
    TOLERANCE,
    CentredTargets,
    RidgeSolution,
    absolute_ridges,
    best_ridge,
    solve_by_eigendecomposition,
)

Solved = tuple[Float[Tensor, " t"], Float[Tensor, "n t"]]


def subsample_rows(n: int, size: int) -> Tensor:
    """``size`` evenly spaced row indices of n: any order of the samples, sorted ones too, is represented."""
    return torch.arange(size) * n // size


def solve_by_refits(
    kernel: Kernel,
    x: Float[Tensor, "n d"],
    targets: Float[Tensor, "n t"],
    relative: Sequence[float] | None,
    advanced: Callable[[], None],
) -> RidgeSolution:
    """Leave-one-out choice over the grid by refits; ``advanced`` is called after every solved system.

    Raises:
        KernelNotPositiveDefinite: no ridge of the grid makes the gram positive definite.
    """
    n = x.shape[0]
    rows = subsample_rows(n, min(n, SUBSAMPLE)).to(x.device)
    gram = kernel.gram(x[rows])
    coarse = solve_by_eigendecomposition(
        gram, targets[rows], absolute_ridges(relative, float(gram.diagonal().mean()), gram)
    )
    del gram
    advanced()
    starts = coarse.chosen
    if n >= 4 * SUBSAMPLE:
        # The optimum drifts with n; a system of half the size costs an eighth of a step in the wrong direction.
        rows = subsample_rows(n, n // 2).to(x.device)
        starts = _Walk(kernel.gram(x[rows]), targets[rows], relative, advanced).solution(starts).chosen
    return _Walk(kernel.gram(x), targets, relative, advanced).solution(starts)


class _Walk:
    """Downhill over the grid on one gram; every ridge is solved for at most once, for all targets together."""

    def __init__(
        self,
        gram: Float[Tensor, "n n"],
        targets: Float[Tensor, "n t"],
        relative: Sequence[float] | None,
        advanced: Callable[[], None],
    ) -> None:
        self._gram = gram
        self._factor = torch.empty_like(gram)
        self._centred = CentredTargets.of(targets)
        self._ridges = absolute_ridges(relative, float(gram.diagonal().mean()), gram)
        self._advanced = advanced
        self._solved: dict[int, Solved] = {}

    def solution(self, starts: Sequence[int]) -> RidgeSolution:
        """Walk from ``starts``, one a target, until neither neighbour of the best ridge is better."""
        for target, start in enumerate(starts):
            self._walk(target, start)
        loo_mse = torch.full(
            (len(self._ridges), len(starts)), torch.nan, dtype=self._gram.dtype, device=self._gram.device
        )
        for index, (errors, _) in self._solved.items():
            loo_mse[index] = errors
        chosen = tuple(best_ridge(errors) for errors in loo_mse.mT)
        weights = torch.stack(
            [self._solved[index][1][:, target] for target, index in enumerate(chosen)], dim=1
        )
        return RidgeSolution(self._ridges, loo_mse, chosen, weights, self._centred.mean)

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
        return float(self._solved[index][0][target])

    def _solve(self, ridge: float) -> Solved:
        self._factor.copy_(self._gram).diagonal().add_(ridge)
        try:
            factor = factor_in_place(self._factor)
        except KernelNotPositiveDefinite:
            # Too small a ridge for this gram's rounding: the walk turns towards larger ones.
            targets = self._centred.values
            return torch.full_like(self._centred.mean, torch.inf), torch.full_like(targets, torch.nan)
        coefficients = solve_with_factor(factor, self._centred.right_hand_sides())
        errors = self._centred.leave_one_out(coefficients, inverse_diagonal(factor))
        return errors, self._centred.centred_weights(coefficients)
