"""The rows that every table should have: nearest neighbours, gradient boosting, and what an oracle would reach."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.flops.baselines import boosting
from bfc_core.flops.counting import charge
from bfc_core.kernel_cost import BLOCK_ROWS
from bfc_core.kernels.distance import squared_distances
from bfc_core.learners.baseline import FitContext, FittedFunction, mean_squares, ridge_on
from bfc_core.learners.kernel_ridge import FittedKernel
from bfc_core.specs.baselines import GradientBoosting, NearestNeighbours, Oracle
from bfc_core.spread import spread_of
from bfc_core.targets.base import Target

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingRegressor


def fit_nearest_neighbours(
    learner: NearestNeighbours, x: Float[Tensor, "n d"], y: Float[Tensor, " n"], context: FitContext
) -> FittedFunction:
    """The number of neighbours with the least held-out error; then all samples vote."""
    trained, held_out = context.split(len(x), learner.validation_fraction)
    counts = sorted({min(count, len(trained)) for count in learner.neighbours})
    predicted = torch.stack(
        [_neighbour_means(x[held_out], x[trained], y[trained], count) for count in counts], dim=1
    )
    errors = mean_squares(predicted, y[held_out])
    best = int(errors.argmin())
    context.progress(1, 1)
    warnings: tuple[str, ...] = ()
    if len(counts) > 1 and best in (0, len(counts) - 1):
        warnings = (f"the best number of neighbours, {counts[best]}, is an end of the list",)
    return FittedFunction(
        lambda fresh: _neighbour_means(fresh, x, y, counts[best]),
        {
            "neighbours": counts[best],
            "held_out_mse": float(errors[best]),
            "candidates_tried": len(counts),
            "validation_samples": len(held_out),
        },
        warnings,
    )


def fit_gradient_boosting(
    learner: GradientBoosting, x: Float[Tensor, "n d"], y: Float[Tensor, " n"], context: FitContext
) -> FittedFunction:
    """Depth, step size and number of trees with the least held-out error; then once more on all samples."""
    trained, held_out = context.split(len(x), learner.validation_fraction)
    grid = [(depth, step) for depth in learner.depths for step in learner.step_sizes]
    best = (float("inf"), 0, 0.0, 1)
    for position, (depth, step) in enumerate(grid):
        context.progress(position, len(grid) + 1)
        model = _boosted(depth, step, learner.most_trees, context.seed)
        model.fit(x[trained].numpy(), y[trained].numpy())
        charge(boosting(len(trained), x.shape[1], depth, learner.most_trees))
        errors = [
            float(((torch.from_numpy(values) - y[held_out]) ** 2).mean())
            for values in model.staged_predict(x[held_out].numpy())
        ]
        trees = min(range(len(errors)), key=errors.__getitem__)
        best = min(best, (errors[trees], depth, step, trees + 1))
    error, depth, step, trees = best
    model = _boosted(depth, step, trees, context.seed)
    model.fit(x.numpy(), y.numpy())
    charge(boosting(len(x), x.shape[1], depth, trees))
    context.progress(len(grid) + 1, len(grid) + 1)
    warnings: tuple[str, ...] = ()
    if trees == learner.most_trees:
        warnings = (f"the last tree, number {trees}, still helped: more trees may do better",)
    return FittedFunction(
        lambda fresh: torch.from_numpy(model.predict(fresh.numpy())),
        {
            "depth": depth,
            "step_size": step,
            "trees": trees,
            "held_out_mse": error,
            "candidates_tried": len(grid),
            "validation_samples": len(held_out),
        },
        warnings,
    )


def fit_oracle(
    learner: Oracle,
    x: Float[Tensor, "n d"],
    y: Float[Tensor, " n"],
    target: Target,
    context: FitContext,
) -> FittedFunction | FittedKernel:
    """Ridge on the target's features and their squares, the target, or the mean."""
    match learner.knows:
        case "bayes":
            return FittedFunction(target)
        case "constant":
            mean = float(y.mean())
            return FittedFunction(lambda fresh: torch.full_like(fresh[:, 0], mean))
        case "features":
            function = _true_features(target, x)
            return ridge_on(function, function(x[:1]).shape[1], x, y, learner.ridges, context)


def _true_features(target: Target, x: Float[Tensor, "n d"]) -> Callable[[Tensor], Tensor]:
    """Features and squares over their spread on the samples: a target has no units, and neither has its oracle."""

    def features(rows: Tensor) -> Tensor:
        found = list(target.features(rows).values()) or [
            part[:, None] for part in target.parts(rows).values()
        ]
        return torch.cat([*found, *(values.square() for values in found)], dim=1)

    known = features(x)
    mean, spread = known.mean(0), spread_of(known)
    return lambda rows: (features(rows) - mean) / spread


def _boosted(depth: int, step: float, trees: int, seed: int) -> "HistGradientBoostingRegressor":
    from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415 - docs/decisions/0057

    return HistGradientBoostingRegressor(
        max_depth=depth, learning_rate=step, max_iter=trees, early_stopping=False, random_state=seed
    )


def _neighbour_means(
    fresh: Float[Tensor, "t d"], x: Float[Tensor, "n d"], y: Float[Tensor, " n"], count: int
) -> Float[Tensor, " t"]:
    """Means over the nearest ``count``, weighted by inverse distance; a coincident sample decides alone."""
    predictions = []
    for start in range(0, len(fresh), BLOCK_ROWS):
        rows = fresh[start : start + BLOCK_ROWS]
        distances, nearest = squared_distances(rows, x).topk(count, dim=1, largest=False)
        weights = distances.sqrt().clamp_min(1e-12).reciprocal()
        predictions.append((weights * y[nearest]).sum(1) / weights.sum(1))
    return torch.cat(predictions)
