"""How a kernel ridge fit is solved: the cheapest exact way, or the approximation that was asked for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.errors import KernelNotPositiveDefinite
from bfc_core.kernel_cost import (
    BLOCK_ROWS,
    EIGENDECOMPOSITION_LIMIT,
    Solver,
    is_solved_by_eigendecomposition,
    is_solved_by_features,
)
from bfc_core.kernels.base import FiniteRankKernel, Kernel
from bfc_core.kernels.iterative import (
    NystromPreconditioner,
    solve_by_conjugate_gradients,
    solve_in_mixed_precision,
    symmetric_gram_times,
)
from bfc_core.kernels.nystrom import NystromFeatures
from bfc_core.kernels.refinement import solve_refined
from bfc_core.kernels.refits import solve_by_refits, solve_each, subsample_rows
from bfc_core.kernels.ridge import (
    CentredTargets,
    Criterion,
    Eigendecomposition,
    RidgeSolution,
    absolute_ridges,
    scale_of,
    solve_by_eigendecomposition,
    solve_by_feature_blocks,
)
from bfc_core.kernels.shared import SharedGrams
from bfc_core.learners.predictor import Selection

RESIDUAL = 1e-8
"""Relative residual at which conjugate gradients stop: far below what the targets are known to."""

MOST_STEPS = 200

WORTH_ROUNDING = 10_000
"""Samples from which conjugate gradients form most of their products in float32."""


class SolverOptions(Protocol):
    """What a learner's spec says about solving; ``kernel_ridge`` says all of it."""

    @property
    def ridges(self) -> tuple[float, ...] | None:
        """Relative to the mean of the gram's diagonal; None takes the default grid."""
        ...

    @property
    def criterion(self) -> Criterion:
        """What the ridge is chosen by."""
        ...

    @property
    def solver(self) -> Solver:
        """Exact, or one of the approximations."""
        ...

    @property
    def centres(self) -> int:
        """Of the approximations."""
        ...

    @property
    def precision(self) -> Literal["float64", "mixed"]:
        """Of the exact solver."""
        ...


@dataclass(frozen=True)
class ExactOptions:
    """Exact, in float64, by leave-one-out."""

    ridges: tuple[float, ...] | None = None
    criterion: Criterion = "leave_one_out"
    solver: Solver = "exact"
    centres: int = 1000
    precision: Literal["float64", "mixed"] = "float64"


@dataclass(frozen=True)
class SolvedKernel:
    """The path, what predictions are made from, and what the report shall say.

    ``anchors`` are the points of the expansion, or None where the weights are those of the kernel's features.
    ``scale`` is the mean of the gram's diagonal.
    """

    solution: RidgeSolution
    weights: Float[Tensor, "w t"]
    anchors: Float[Tensor, "a p"] | None
    scale: float
    selection: Selection
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class KernelSystem:
    """One kernel on one set of samples.

    ``advanced`` is called after every solved system and ``alive`` often within one; either may raise to stop.
    ``decomposed`` is the gram's eigendecomposition where choosing the kernel has made it.
    """

    kernel: Kernel
    name: str
    x: Float[Tensor, "n p"]
    y: Float[Tensor, "n t"]
    learner: SolverOptions
    shared: SharedGrams
    advanced: Callable[[], None]
    alive: Callable[[], None]
    decomposed: Eigendecomposition | None = None

    def solved(self) -> SolvedKernel:
        """Solve as the learner's spec says.

        Raises:
            KernelNotPositiveDefinite: no ridge of the grid can be solved for.
        """
        match self.learner.solver:
            case "nystrom":
                return self._by_centres()
            case "iterative":
                return self._by_iteration()
            case "exact" if self.learner.precision == "mixed":
                return self._mixed()
            case _:
                return self._exact()

    def _exact(self) -> SolvedKernel:
        n, dim = self.x.shape
        kernel, learner = self.kernel, self.learner
        if isinstance(kernel, FiniteRankKernel) and is_solved_by_features(n, kernel.rank(dim)):
            solution = solve_by_feature_blocks(
                lambda: self._feature_blocks(kernel), self.y, self._ridges(), learner.criterion
            )
            return self._answer(solution, "features", anchors=None)
        if is_solved_by_eigendecomposition(n, self._ridge_count):
            decomposed = self.decomposed
            if decomposed is None:
                decomposed = self.shared.eigendecomposition(self.name, kernel, self.x)
            else:
                self.shared.keep(self.name, self.x, decomposed)
            solution = solve_by_eigendecomposition(decomposed, self.y, self._ridges(), learner.criterion)
            return self._answer(solution, "eigendecomposition", self.x)
        if n <= EIGENDECOMPOSITION_LIMIT or self._ridge_count == 1:
            assert learner.ridges is not None
            gram = self.shared.gram(self.name, kernel, self.x)
            solution = solve_each(gram, self.y, learner.ridges, self.advanced, learner.criterion, self.alive)
        else:
            solution = solve_by_refits(
                kernel, self.x, self.y, learner.ridges, self.advanced, learner.criterion, self.alive
            )
        return self._answer(solution, "refits", self.x)

    def _mixed(self) -> SolvedKernel:
        """Choose the ridge on float32 refits and refine the answer; in float64 throughout where that fails."""
        # Centred before it is rounded: float32 would lose small targets beside a large mean.
        mean, learner = self.y.mean(0), self.learner
        x, y = self.x.float(), (self.y - mean).float()
        try:
            solution = solve_by_refits(
                self.kernel, x, y, learner.ridges, self.advanced, learner.criterion, self.alive
            )
            weights, steps = self._refined(solution)
            solution = replace(solution, intercept=mean)
        except KernelNotPositiveDefinite as reason:
            return _with(self._exact(), {"precision": "float64"}, (f"solved in float64: {reason}",))
        answer = self._answer(solution, "refits", self.x, weights)
        return _with(answer, {"precision": "mixed", "refinement_steps": steps})

    def _refined(self, solution: RidgeSolution) -> tuple[Float[Tensor, "n t"], int]:
        centred = CentredTargets.of(self.y)
        weights = torch.empty_like(self.y)
        steps = 0
        for target, index in enumerate(solution.chosen):
            if index > 0 and solution.loo_mse[index - 1, target].isinf():
                raise KernelNotPositiveDefinite("the best ridge is the least that float32 can factor")
            values = (self.y[:, target] - centred.mean[target])[:, None]
            ridge = float(solution.ridges[index])
            if ridge == 0:
                raise KernelNotPositiveDefinite("the best ridge is too small a number for float32")
            refined = solve_refined(self.kernel, self.x, values, ridge, self.alive)
            weights[:, target] = refined.coefficients[:, 0]
            steps = max(steps, refined.steps)
            self.advanced()
        return weights, steps

    def _by_centres(self) -> SolvedKernel:
        ridges, features = self._ridges(), self._nystrom_features()
        solution = solve_by_feature_blocks(
            lambda: features.blocks(self.x, self.alive), self.y, ridges, self.learner.criterion
        )
        weights = features.weights_of_centres(solution.weights)
        answer = self._answer(solution, "nystrom", features.centres, weights)
        return _with(answer, {"centres": len(features.centres)}, _jitter_warning(features.jitter))

    def _by_iteration(self) -> SolvedKernel:
        """The ridge from the Nyström path; then the exact system at that ridge, started from zero."""
        ridges, features = self._ridges(), self._nystrom_features()
        path = solve_by_feature_blocks(
            lambda: features.blocks(self.x, self.alive), self.y, ridges, self.learner.criterion
        )
        self.advanced()
        centred = CentredTargets.of(self.y)
        weights = torch.empty_like(self.y)
        steps, residual = 0, 0.0
        for target, index in enumerate(path.chosen):
            ridge = float(path.ridges[index])
            preconditioner = NystromPreconditioner.of(features.matrix(self.x, self.alive), ridge)
            right = (self.y[:, target] - centred.mean[target])[:, None]

            times = partial(self._times, self.x, ridge)
            if len(self.x) < WORTH_ROUNDING:
                found = solve_by_conjugate_gradients(times, right, preconditioner, None, RESIDUAL, MOST_STEPS)
            else:
                rounded = partial(self._times, self.x.float(), ridge)
                found = solve_in_mixed_precision(rounded, times, right, preconditioner, RESIDUAL, MOST_STEPS)
            weights[:, target] = found.coefficients[:, 0]
            steps, residual = max(steps, found.steps), max(residual, found.residual)
            self.advanced()
        answer = self._answer(path, "iterative", self.x, weights)
        warnings = list(_jitter_warning(features.jitter))
        if residual > RESIDUAL:
            warnings.append(
                f"conjugate gradients stopped after {steps} steps with a relative residual of {residual:.1e}: "
                "more centres or a larger ridge make them converge"
            )
        selection: Selection = {"centres": len(features.centres), "iterations": steps, "residual": residual}
        return _with(answer, selection, tuple(warnings))

    def _times(
        self, x: Float[Tensor, "n p"], ridge: float, vectors: Float[Tensor, "n t"]
    ) -> Float[Tensor, "n t"]:
        """(K + λI) v with K in the precision of ``x``."""
        return symmetric_gram_times(self.kernel, x, vectors, self.alive) + ridge * vectors

    def _nystrom_features(self) -> NystromFeatures:
        if not bool(self.kernel.diagonal(self.x).any()):
            raise KernelNotPositiveDefinite(
                "the kernel is zero on every sample, so that centres span nothing: give it an offset, a bias or other "
                "inputs, or solve exactly, which leaves the mean of the targets"
            )
        rows = subsample_rows(len(self.x), min(len(self.x), self.learner.centres)).to(self.x.device)
        return NystromFeatures.of(self.kernel, self.x[rows])

    @property
    def _ridge_count(self) -> int | None:
        return None if self.learner.ridges is None else len(self.learner.ridges)

    @property
    def _scale(self) -> float:
        return scale_of(float(self.kernel.diagonal(self.x).mean()))

    def _ridges(self) -> Float[Tensor, " g"]:
        return absolute_ridges(self.learner.ridges, self._scale, self.x)

    def _feature_blocks(self, kernel: FiniteRankKernel) -> Iterator[Float[Tensor, "b r"]]:
        for start in range(0, len(self.x), BLOCK_ROWS):
            self.alive()
            yield kernel.features(self.x[start : start + BLOCK_ROWS])

    def _answer(
        self,
        solution: RidgeSolution,
        solver: str,
        anchors: Float[Tensor, "a p"] | None,
        weights: Float[Tensor, "w t"] | None = None,
    ) -> SolvedKernel:
        weights = solution.weights if weights is None else weights
        warnings = _jitter_warning(solution.jitter)
        return SolvedKernel(solution, weights, anchors, self._scale, {"solver": solver}, warnings)


def _with(answer: SolvedKernel, selection: Selection, warnings: tuple[str, ...] = ()) -> SolvedKernel:
    return replace(answer, selection=answer.selection | selection, warnings=(*answer.warnings, *warnings))


def _jitter_warning(jitter: float) -> tuple[str, ...]:
    if jitter == 0:
        return ()
    return (
        f"rounding made the gram indefinite: {jitter:.1e} was added to its diagonal before it was factored",
    )
