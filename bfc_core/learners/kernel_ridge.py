"""Kernel ridge regression with its ridge, and an RBF's bandwidth, chosen by leave-one-out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.errors import KernelNotPositiveDefinite, ResourceLimitExceeded
from bfc_core.kernel_cost import BLOCK_ROWS, EIGENDECOMPOSITION_LIMIT, SUBSAMPLE, kernel_ridge_memory_bytes
from bfc_core.kernels.base import FiniteRankKernel, Kernel
from bfc_core.kernels.build import build_kernel
from bfc_core.kernels.feature_map import FeatureMap, mapped
from bfc_core.kernels.gram import gram_times
from bfc_core.kernels.pulse import watched
from bfc_core.kernels.refits import subsample_rows
from bfc_core.kernels.ridge import (
    Eigendecomposition,
    RidgeSolution,
    absolute_ridges,
    solve_by_eigendecomposition,
)
from bfc_core.kernels.shared import SharedGrams
from bfc_core.learners.kernel_solvers import KernelSystem, SolverOptions
from bfc_core.learners.predictor import Selection
from bfc_core.specs import KernelRidge
from bfc_core.specs.kernels import bandwidths_of, variants

Progress = Callable[[int, int], None]

EQUAL = 1.01
"""Leave-one-out errors within this factor count as equal when an end of the list of bandwidths is remarked on."""

CRITERIA = {"leave_one_out": "leave-one-out", "gcv": "GCV"}

TYPICAL_REFITS = 7
"""Systems that ``solve_by_refits`` usually solves; it only scales the progress that is shown."""


@dataclass(frozen=True)
class FittedKernel:
    """The predictor b + Σ_i α_i k(x, x_i), or b + w·Φ(x) where the kernel has finite rank; a column a class.

    ``selection`` names what was chosen and how well it did; ``warnings`` are sentences for the report.
    """

    kernel: Kernel
    feature_map: FeatureMap
    anchors: Float[Tensor, "n p"] | None
    weights: Float[Tensor, "w c"]
    intercept: Float[Tensor, " c"]
    selection: Selection
    warnings: tuple[str, ...] = field(default=())

    def __call__(self, x: Float[Tensor, "t d"]) -> Float[Tensor, " t"] | Float[Tensor, "t c"]:
        """Predictions in float64, block by block."""
        predictions = self._outputs(mapped(x.double(), self.feature_map)) + self.intercept
        return predictions[:, 0] if predictions.shape[1] == 1 else predictions

    def _outputs(self, inputs: Float[Tensor, "t p"]) -> Float[Tensor, "t c"]:
        if self.anchors is not None:
            return gram_times(self.kernel.block, inputs, self.anchors, self.weights)
        assert isinstance(self.kernel, FiniteRankKernel)
        predictions = [
            self.kernel.features(inputs[start : start + BLOCK_ROWS]) @ self.weights
            for start in range(0, inputs.shape[0], BLOCK_ROWS)
        ]
        return torch.cat(predictions)


def fit_kernel_ridge(
    learner: KernelRidge,
    x: Float[Tensor, "n d"],
    y: Float[Tensor, " n"] | Float[Tensor, "n c"],
    progress: Progress,
    memory_limit_bytes: int | None,
    shared: SharedGrams | None = None,
) -> FittedKernel:
    """Fit in float64; nothing is drawn at random.

    Targets are centred with their mean; of several columns each has its own ridge.
    A list of bandwidths is chosen from on at most 1000 evenly spaced
    samples, each with its own best ridge by leave-one-out; the ridge is then chosen on all n samples: from
    one eigendecomposition up to n = 2000 and for a kernel of low rank, by exact refits above and for a few
    ridges. ``shared`` lends grams and eigendecompositions of other fits.
    ``progress(solved, expected)`` is called after every solved system, and between, and may raise to stop the fit.

    Raises:
        ResourceLimitExceeded: the grams do not fit ``memory_limit_bytes``; nothing was allocated.
        KernelNotPositiveDefinite: no ridge of the grid can be solved for.
    """
    n = x.shape[0]
    dim = x.shape[1] if learner.feature_map == "identity" else 2 * x.shape[1]
    needed = kernel_ridge_memory_bytes(learner, n, dim, test_samples=0)
    if memory_limit_bytes is not None and needed > memory_limit_bytes:
        raise ResourceLimitExceeded(f"kernel_ridge on {n} samples", needed, memory_limit_bytes)
    candidates = [
        Candidate(
            build_kernel(variant),
            f"{variant.canonical_json()} of {learner.feature_map}",
            {name: values[0] for name, values in bandwidths_of(variant).items()},
        )
        for variant in variants(learner.kernel)
    ]
    inputs = mapped(x.double(), learner.feature_map)
    fitted = fit_candidates(candidates, learner, inputs, y.double(), progress, shared or SharedGrams())
    return replace(fitted, feature_map=learner.feature_map)


@dataclass(frozen=True)
class Candidate:
    """A kernel to choose, a name that no other kernel has, and what choosing it says (its bandwidths)."""

    kernel: Kernel
    name: str
    choice: dict[str, float] = field(default_factory=dict)


def fit_candidates(
    candidates: Sequence[Candidate],
    options: SolverOptions,
    inputs: Float[Tensor, "n p"],
    y: Float[Tensor, " n"] | Float[Tensor, "n c"],
    progress: Progress,
    shared: SharedGrams,
) -> FittedKernel:
    """Choose a kernel on a subsample and its ridge on all samples; inputs and targets are in float64.

    Raises:
        KernelNotPositiveDefinite: no ridge of the grid can be solved for, values are not finite, or there is but one
            sample; nothing was computed in the last two cases.
    """
    targets = y[:, None] if y.ndim == 1 else y
    _check(inputs, targets)
    steps = _Steps(
        progress, len(candidates) - 1 + (TYPICAL_REFITS if len(inputs) > EIGENDECOMPOSITION_LIMIT else 1)
    )
    selection: Selection = {}
    warnings: list[str] = []
    best, decomposed = candidates[0], None
    with watched(steps.alive):
        if len(candidates) > 1:
            errors, decomposed = _screened(
                [candidate.kernel for candidate in candidates], inputs, targets, options, steps
            )
            best = candidates[errors.index(min(errors))]
            warnings.extend(_bandwidth_warnings([candidate.choice for candidate in candidates], errors))
            selection["bandwidth_at_edge"] = bool(warnings)
        selection |= best.choice
        solved = KernelSystem(
            best.kernel, best.name, inputs, targets, options, shared, steps.advance, steps.alive, decomposed
        ).solved()
    steps.finish()
    solution = solved.solution
    edges = [column for column in range(targets.shape[1]) if solution.at_edge(column)]
    selection |= _chosen_ridges(solution, solved.scale)
    selection |= {
        "at_edge": bool(edges),
        "candidates_tried": len(candidates) * len(solution.ridges),
        **solved.selection,
    }
    warnings.extend(solved.warnings)
    if edges:
        chosen = solution.chosen[edges[0]]
        ridge = float(solution.ridges[chosen])
        end = "smallest" if chosen == 0 else "largest"
        warnings.append(
            f"the {CRITERIA[options.criterion]} optimum is the {end} ridge of the grid "
            f"({ridge / solved.scale:.3g} times the mean of the gram's diagonal): a wider grid of ridges may do better"
        )
    return FittedKernel(
        best.kernel,
        "identity",
        solved.anchors,
        solved.weights,
        solution.intercept,
        selection,
        tuple(warnings),
    )


def _check(inputs: Float[Tensor, "n p"], targets: Float[Tensor, "n c"]) -> None:
    for name, values in (("inputs", inputs), ("targets", targets)):
        if not bool(values.isfinite().all()):
            raise KernelNotPositiveDefinite(f"the {name} hold values that are not finite")
    if len(inputs) == 1:
        raise KernelNotPositiveDefinite("leave-one-out needs at least two samples")


def _chosen_ridges(solution: RidgeSolution, scale: float) -> Selection:
    """The ridge and its errors; of several classes the least and the largest ridge, and the mean errors."""
    chosen = torch.tensor(solution.chosen)
    columns = torch.arange(len(chosen))
    ridges = solution.ridges.cpu()[chosen]
    errors: Selection = {
        "loo_mse": float(solution.loo_mse.cpu()[chosen, columns].mean()),
        "gcv": float(solution.gcv.cpu()[chosen, columns].mean()),
    }
    if len(chosen) == 1:
        return {"ridge": float(ridges[0]), "relative_ridge": float(ridges[0]) / scale, **errors}
    least, largest = float(ridges.min()) / scale, float(ridges.max()) / scale
    return {"least_relative_ridge": least, "largest_relative_ridge": largest, **errors}


class _Steps:
    """Counts solved systems and tells ``progress``, which may raise."""

    def __init__(self, progress: Progress, expected: int) -> None:
        self._progress = progress
        self._expected = expected
        self._done = 0
        progress(0, expected)

    def advance(self) -> None:
        # The last step is kept for `finish`: how many refits there will be is not known beforehand.
        self._done = min(self._done + 1, self._expected - 1)
        self._progress(self._done, self._expected)

    def alive(self) -> None:
        self._progress(self._done, self._expected)

    def finish(self) -> None:
        self._progress(self._expected, self._expected)


def _screened(
    candidates: Sequence[Kernel],
    x: Float[Tensor, "n p"],
    y: Float[Tensor, "n c"],
    learner: SolverOptions,
    steps: _Steps,
) -> tuple[list[float], Eigendecomposition | None]:
    """Validation error of every kernel, each at its best ridge, on a subsample.

    Where the subsample is all samples, also the decomposition of the best kernel's gram, which need not be made again.
    """
    rows = subsample_rows(x.shape[0], min(x.shape[0], SUBSAMPLE)).to(x.device)
    errors: list[float] = []
    best = None
    for kernel in candidates:
        gram = kernel.gram(x[rows])
        ridges = absolute_ridges(learner.ridges, float(gram.diagonal().mean()), gram)
        decomposed = Eigendecomposition.of(gram)
        solution = solve_by_eigendecomposition(decomposed, y[rows], ridges, learner.criterion)
        path = solution.loo_mse if learner.criterion == "leave_one_out" else solution.gcv
        chosen = torch.tensor(solution.chosen, device=path.device)
        error = float(path[chosen, torch.arange(len(chosen), device=path.device)].mean())
        if len(rows) == len(x) and error < min(errors, default=float("inf")):
            best = decomposed
        errors.append(error)
        steps.advance()
    return errors, best


def _bandwidth_warnings(choices: Sequence[dict[str, float]], errors: Sequence[float]) -> Iterator[str]:
    """A sentence for every list of bandwidths whose end beats everything between its ends."""
    best = choices[errors.index(min(errors))]
    for name, value in best.items():
        values = sorted({choice[name] for choice in choices})
        if len(values) == 1:
            continue
        inner = [
            error
            for choice, error in zip(choices, errors, strict=True)
            if choice[name] not in (values[0], values[-1])
        ]
        if min(inner, default=float("inf")) > EQUAL * min(errors):
            yield f"the best {name}, {value:g}, is an end of the list: a wider list may do better"
