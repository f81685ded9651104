"""Baselines that are kernel ridge with a kernel of their own: finite networks, random features, level by level."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.flops.algebra import product
from bfc_core.flops.baselines import LIMIT_ROWS
from bfc_core.kernels.base import Kernel
from bfc_core.kernels.build import WEIGHT_VARIANCE, candidate_kernels
from bfc_core.kernels.empirical_ntk import EmpiricalNtkKernel
from bfc_core.kernels.explicit import ExplicitKernel, fourier_features, relu_features
from bfc_core.kernels.gram import gram_times
from bfc_core.kernels.network import NetworkKernel
from bfc_core.kernels.ridge import (
    CentredTargets,
    Eigendecomposition,
    absolute_ridges,
    scale_of,
    solve_by_eigendecomposition,
)
from bfc_core.learners.baseline import FitContext, FittedFunction, ridge_on
from bfc_core.learners.kernel_ridge import Candidate, FittedKernel, fit_candidates
from bfc_core.learners.kernel_solvers import ExactOptions
from bfc_core.learners.predictor import Selection
from bfc_core.specs.baselines import EmpiricalNtk, Linear, RandomFeatures, SequentialKernel

DISTANCE_TO_LIMIT = "distance_to_limit"

Samples = Float[Tensor, "n d"]


def fit_empirical_ntk(
    learner: EmpiricalNtk, x: Float[Tensor, "n d"], y: Float[Tensor, " n"], context: FitContext
) -> FittedKernel:
    """Kernel ridge on the tangent kernel of a network drawn from the run's ``init`` stream."""
    kernel = EmpiricalNtkKernel(
        x.shape[1],
        learner.width,
        learner.depth,
        learner.activation,
        learner.weight_variance or WEIGHT_VARIANCE[learner.activation],
        learner.bias_variance,
        context.initial(),
    )
    name = f"{learner.canonical_json()} of seed {context.seed}"
    fitted = fit_candidates(
        [Candidate(kernel, name)], ExactOptions(learner.ridges), x, y, context.progress, context.shared
    )
    limit = NetworkKernel(
        tangent=True,
        depth=learner.depth,
        activation=learner.activation,
        weight_variance=kernel.weight_variance,
        bias_variance=kernel.bias_variance,
    )
    distance = distance_to_limit(kernel, limit, x[:LIMIT_ROWS])
    return replace(fitted, selection=fitted.selection | {DISTANCE_TO_LIMIT: distance})


def distance_to_limit(kernel: Kernel, limit: Kernel, x: Float[Tensor, "n d"]) -> float:
    """‖K − K_∞‖ / ‖K_∞‖ in Frobenius norm, on some samples; at random initialisation it falls like width^−½."""
    infinite = limit.gram(x)
    return float((kernel.gram(x) - infinite).norm() / infinite.norm())


def fit_random_features(
    learner: RandomFeatures, x: Float[Tensor, "n d"], y: Float[Tensor, " n"], context: FitContext
) -> FittedKernel:
    """Ridge on features drawn from the run's ``init`` stream; every bandwidth scales the same draw."""
    dim, count = x.shape[1], learner.count
    row_flops = product(1, dim, count)
    # Grams are shared by name, also between packs: other features of the same samples need another name.
    drawn = f"{count} features of seed {context.seed}"
    if learner.features == "relu":
        relu = relu_features(dim, count, context.initial())
        candidates = [Candidate(ExplicitKernel(relu, count, row_flops), f"relu, {drawn}")]
    else:
        candidates = [
            Candidate(
                ExplicitKernel(fourier_features(dim, count, bandwidth, context.initial()), count, row_flops),
                f"fourier {bandwidth}, {drawn}",
                {"bandwidth": bandwidth},
            )
            for bandwidth in learner.bandwidths
        ]
    return fit_candidates(candidates, ExactOptions(learner.ridges), x, y, context.progress, context.shared)


def fit_linear(
    learner: Linear, x: Float[Tensor, "n d"], y: Float[Tensor, " n"], context: FitContext
) -> FittedKernel:
    """Ridge on x itself."""
    return ridge_on(lambda rows: rows, x.shape[1], x, y, learner.ridges, context)


@dataclass(frozen=True)
class _Stage:
    """A fitted stage, what the next one reads of it, and its leave-one-out error."""

    predict: Callable[[Tensor], Tensor]
    left_out: Float[Tensor, " n"]
    loo_mse: float
    selection: Selection


def fit_sequential_kernel(
    learner: SequentialKernel, x: Float[Tensor, "n d"], y: Float[Tensor, " n"], context: FitContext
) -> FittedFunction:
    """Stage by stage; of a list of bandwidths every stage takes the one with the least leave-one-out error.

    Raises:
        KernelNotPositiveDefinite: no ridge of the grid can be solved for.
    """
    kernels = len(candidate_kernels(learner.kernel))
    stages: list[_Stage] = []
    scale = y.std().clamp_min(torch.finfo(y.dtype).tiny)

    def widened(rows: Tensor, predictions: list[Tensor]) -> Tensor:
        columns = [((values - y.mean()) / scale)[:, None] for values in predictions]
        return torch.cat([rows, *columns], dim=1)

    for stage in range(learner.stages):
        context.progress(stage * kernels, learner.stages * kernels)
        inputs = widened(x, [done.left_out for done in stages])
        stages.append(_best_stage(learner, inputs, y, context, stage))
    context.progress(learner.stages * kernels, learner.stages * kernels)
    best = min(range(len(stages)), key=lambda stage: stages[stage].loo_mse)

    def predict(fresh: Tensor) -> Tensor:
        predictions: list[Tensor] = []
        for stage in stages[: best + 1]:
            predictions.append(stage.predict(widened(fresh, predictions)))
        return predictions[-1]

    selection: Selection = {"stages": best + 1, "loo_mse": stages[best].loo_mse}
    for stage, done in enumerate(stages):
        selection |= {f"stage.{stage + 1}.{name}": value for name, value in done.selection.items()}
    selection["candidates_tried"] = learner.stages * kernels
    return FittedFunction(predict, selection)


def _best_stage(
    learner: SequentialKernel,
    inputs: Float[Tensor, "n p"],
    y: Float[Tensor, " n"],
    context: FitContext,
    stage: int,
) -> _Stage:
    best: _Stage | None = None
    kernels = candidate_kernels(learner.kernel)
    for position, kernel in enumerate(kernels):
        gram = kernel.gram(inputs)
        scale = scale_of(float(gram.diagonal().mean()))
        decomposed = Eigendecomposition.of(gram)
        solution = solve_by_eigendecomposition(
            decomposed, y[:, None], absolute_ridges(learner.ridges, scale, gram)
        )
        ridge = float(solution.ridges[solution.chosen[0]])
        error = float(solution.loo_mse[solution.chosen[0], 0])
        context.progress(stage * len(kernels) + position + 1, learner.stages * len(kernels))
        if best is not None and error >= best.loo_mse:
            continue
        weights, intercept = solution.weights, float(solution.intercept[0])

        def predict(
            fresh: Tensor,
            kernel: Kernel = kernel,
            weights: Tensor = weights,
            intercept: float = intercept,
        ) -> Tensor:
            return gram_times(kernel.block, fresh, inputs, weights)[:, 0] + intercept

        left_out = y - _leave_one_out_residuals(decomposed, y, ridge)
        chosen: Selection = {"relative_ridge": ridge / scale, "loo_mse": error, "kernel": position}
        best = _Stage(predict, left_out, error if error == error else inf, chosen)  # noqa: PLR0124
    assert best is not None
    return best


def _leave_one_out_residuals(
    decomposed: Eigendecomposition, y: Float[Tensor, " n"], ridge: float
) -> Float[Tensor, " n"]:
    """What ``ridge.py`` averages, sample by sample."""
    centred = CentredTargets.of(y[:, None])
    vectors = decomposed.vectors
    shrunk = (decomposed.values + ridge).reciprocal()
    coefficients = vectors @ (shrunk[:, None] * (vectors.mT @ centred.right_hand_sides()))
    without = coefficients / (vectors.square() @ shrunk)[:, None]
    return (without[:, :-1] - centred.mean_without * without[:, -1:])[:, 0]
