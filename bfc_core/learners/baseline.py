"""What every baseline is given and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.kernel_cost import BLOCK_ROWS
from bfc_core.kernels.explicit import ExplicitKernel, FeatureFunction
from bfc_core.kernels.shared import SharedGrams
from bfc_core.learners.kernel_ridge import Candidate, FittedKernel, fit_candidates
from bfc_core.learners.kernel_solvers import ExactOptions
from bfc_core.learners.predictor import Selection
from bfc_core.seeding import generator_for

Progress = Callable[[int, int], None]

CONSTANT = 10.0
"""Mean square of the constant feature over that of all features."""


@dataclass(frozen=True)
class FitContext:
    """The run's seed, its hook for progress and cancellation (which may raise), and what its pack shares."""

    seed: int
    progress: Progress
    shared: SharedGrams

    def initial(self) -> torch.Generator:
        """The stream of random weights and features."""
        return generator_for(self.seed, "init")

    def split(self, n: int, fraction: float) -> tuple[Tensor, Tensor]:
        """Row indices to train on and, held out, to judge by; at least two of each."""
        order = torch.randperm(n, generator=generator_for(self.seed, "validation"))
        held_out = held_out_of(n, fraction)
        return order[held_out:], order[:held_out]


def held_out_of(n: int, fraction: float) -> int:
    """How many of n samples are held out: at least two, and at least two are trained on."""
    return min(n - 2, max(2, round(fraction * n)))


@dataclass(frozen=True)
class FittedFunction:
    """A fitted baseline: predictions in float64, what was chosen, and sentences for the report.

    ``level_features``, where given, is what it takes for the feature of a level; ``level_forms`` what it takes for
    the quadratic form of a level.
    """

    function: Callable[[Tensor], Tensor]
    selection: Selection = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    level_features: Callable[[Tensor], dict[int, Tensor]] | None = None
    level_forms: dict[int, Float[Tensor, "d d"]] = field(default_factory=dict)

    def __call__(self, x: Float[Tensor, "t d"]) -> Float[Tensor, " t"]:
        """Predictions, block by block."""
        x = x.double()
        starts = range(0, len(x), 4 * BLOCK_ROWS)
        return torch.cat([self.function(x[start : start + 4 * BLOCK_ROWS]) for start in starts])


def ridge_on(
    features: FeatureFunction,
    count: int,
    x: Float[Tensor, "n d"],
    y: Float[Tensor, " n"],
    ridges: tuple[float, ...] | None,
    context: FitContext,
) -> FittedKernel:
    """Ridge regression on explicit features and a constant, tuned by leave-one-out.

    The constant is ``CONSTANT`` times as strong as all features together, so that it is hardly shrunk: without it
    features of nonzero mean could not be told from the mean of the targets.
    """
    energy = torch.stack(
        [features(rows).square().sum() for rows in torch.tensor_split(x, -(-len(x) // 4096))]
    )
    constant = sqrt(CONSTANT * float(energy.sum()) / len(x)) or 1.0

    def with_constant(rows: Tensor) -> Tensor:
        return torch.cat([features(rows), torch.full_like(rows[:, :1], constant)], dim=1)

    candidate = Candidate(ExplicitKernel(with_constant, count + 1), "features")
    return fit_candidates([candidate], ExactOptions(ridges), x, y, context.progress, SharedGrams())


def mean_squares(predicted: Float[Tensor, "n k"], y: Float[Tensor, " n"]) -> Float[Tensor, " k"]:
    """Mean squared error of every column; what is not finite counts as infinite."""
    errors = (predicted - y[:, None]).square().mean(0)
    return torch.where(errors.isfinite(), errors, torch.inf)
