"""Recursive feature machines: kernel ridge that learns its metric.

Radhakrishnan, Beaglehole, Pandit, Belkin, "Mechanism for feature learning in neural networks and
backpropagation-free machine learning models", Science 383 (2024), arXiv:2212.13881. A round solves Laplace kernel
ridge under the metric M and replaces M by the average gradient outer product of what it predicts,
M ← (1/n) Σ_j ∇f(x_j) ∇f(x_j)ᵀ, by default scaled to trace M = d, so that one bandwidth keeps its meaning from
round to round (the paper leaves M unscaled).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.errors import KernelNotPositiveDefinite, ResourceLimitExceeded
from bfc_core.kernel_cost import FEATURE_MACHINE_SUBSAMPLE, FINALISTS, feature_machine_memory_bytes
from bfc_core.kernels.cholesky import factor_in_place, solve_with_factor
from bfc_core.kernels.feature_map import FeatureMap, mapped
from bfc_core.kernels.gram import gram_times
from bfc_core.kernels.laplace import LaplaceKernel
from bfc_core.kernels.pulse import beat, watched
from bfc_core.learners.baseline import held_out_of
from bfc_core.learners.predictor import Selection
from bfc_core.specs import RecursiveFeatureMachine

Progress = Callable[[int, int], None]

EQUAL = 1.01
"""Held-out errors within this factor count as equal: an end of a list that wins by less is not remarked on."""


@dataclass(frozen=True)
class FittedFeatureMachine:
    """The predictor b + Σ_i α_i exp(−‖x − x_i‖_M / bandwidth); ``kernel.metric`` is M (None: the identity).

    ``selection`` names what was chosen and how well it did; ``warnings`` are sentences for the report.
    """

    kernel: LaplaceKernel
    feature_map: FeatureMap
    anchors: Float[Tensor, "n p"]
    weights: Float[Tensor, " n"]
    intercept: float
    selection: Selection
    warnings: tuple[str, ...] = field(default=())

    def __call__(self, x: Float[Tensor, "t d"]) -> Float[Tensor, " t"]:
        """Predictions in float64, block by block."""
        inputs = mapped(x.double(), self.feature_map)
        return (
            gram_times(self.kernel.block, inputs, self.anchors, self.weights[:, None])[:, 0] + self.intercept
        )


@dataclass(frozen=True)
class _Candidate:
    """Bandwidth, ridge, the round whose metric was best (0: the identity), and its held-out error.

    ``was_improving``: the rounds ended while the error was still falling.
    """

    bandwidth: float
    ridge: float
    rounds: int = 0
    held_out_nmse: float = float("inf")
    metric: Float[Tensor, "p p"] | None = None
    was_improving: bool = False


@dataclass(frozen=True)
class _Split:
    """Samples to train on and samples to judge by."""

    x: Float[Tensor, "n p"]
    y: Float[Tensor, " n"]
    held_out_x: Float[Tensor, "v p"]
    held_out_y: Float[Tensor, " v"]

    @classmethod
    def of(cls, x: Float[Tensor, "n p"], y: Float[Tensor, " n"], order: Tensor, fraction: float) -> "_Split":
        """The first ``fraction`` of ``order`` is held out, at least two samples."""
        held_out, trained = order.tensor_split([held_out_of(len(order), fraction)])
        return cls(x[trained], y[trained], x[held_out], y[held_out])

    def scale(self) -> Float[Tensor, ""]:
        """Variance of the held-out labels; where they are all equal that of all labels, and 1 where those are."""
        for labels in (self.held_out_y, torch.cat([self.y, self.held_out_y])):
            variance: Tensor = (labels - labels.mean()).square().mean()
            if variance > 0:
                return variance
        return torch.ones_like(self.y[0])


def fit_recursive_feature_machine(
    learner: RecursiveFeatureMachine,
    x: Float[Tensor, "n d"],
    y: Float[Tensor, " n"],
    generator: torch.Generator,
    progress: Progress,
    memory_limit_bytes: int | None,
) -> FittedFeatureMachine:
    """Fit in float64; ``generator`` draws which samples are held out and nothing else.

    Every pair of bandwidth and ridge runs all rounds on at most 1500 samples; where there are more, the best two
    pairs run again on all samples but the held-out part. The nMSE of the held-out part chooses pair and round.
    So many rounds are then run on all samples, and the last kernel is solved. Targets are centred with their mean.
    ``progress(solved, systems)`` is called after every solved system and often within one, and may raise.

    Raises:
        ResourceLimitExceeded: the gram does not fit ``memory_limit_bytes``; nothing was allocated.
        KernelNotPositiveDefinite: no candidate could be solved for.
    """
    n = x.shape[0]
    dim = x.shape[1] if learner.feature_map == "identity" else 2 * x.shape[1]
    needed = feature_machine_memory_bytes(n, 0, dim)
    if memory_limit_bytes is not None and needed > memory_limit_bytes:
        raise ResourceLimitExceeded(f"recursive_feature_machine on {n} samples", needed, memory_limit_bytes)
    inputs, targets = mapped(x.double(), learner.feature_map), y.double()
    order = torch.randperm(n, generator=generator, device=generator.device).to(x.device)
    candidates = [
        _Candidate(bandwidth, ridge) for bandwidth in learner.bandwidths for ridge in sorted(learner.ridges)
    ]
    is_subsampled = n > FEATURE_MACHINE_SUBSAMPLE
    finalists = min(FINALISTS, len(candidates)) if is_subsampled else 0
    steps = _Steps(progress, (learner.rounds + 1) * (len(candidates) + finalists + 1))
    fraction = learner.validation_fraction
    with watched(steps.alive):
        split = _Split.of(inputs, targets, order[:FEATURE_MACHINE_SUBSAMPLE], fraction)
        screened = ranked = _ranked(candidates, split, learner, steps)
        if is_subsampled:
            ranked = _ranked(
                screened[:finalists], _Split.of(inputs, targets, order, fraction), learner, steps
            )
        best = ranked[0]
        metric, kept = _metric_of_all(best, inputs, targets, learner, steps)
        kernel = LaplaceKernel(best.bandwidth, metric)
        weights, intercept = _solve(kernel, inputs, targets, best.ridge)
    steps.advance(1 + learner.rounds - best.rounds)
    warnings = tuple(_edge_warnings(best, screened))
    selection: Selection = {
        "bandwidth": best.bandwidth,
        "ridge": best.ridge,
        "rounds": best.rounds,
        "held_out_nmse": best.held_out_nmse,
        "at_edge": bool(warnings),
        "candidates_tried": len(candidates) * (learner.rounds + 1),
        "validation_samples": len(split.held_out_y) if not is_subsampled else held_out_of(n, fraction),
    }
    warnings += kept
    return FittedFeatureMachine(kernel, learner.feature_map, inputs, weights, intercept, selection, warnings)


def average_gradient_outer_product(
    gradients: Float[Tensor, "n p"], scale: Literal["trace", "none"] = "trace"
) -> Float[Tensor, "p p"]:
    """(1/n) Σ_j ∇f(x_j) ∇f(x_j)ᵀ, or that scaled to trace p; the identity where all gradients vanish."""
    product = gradients.mT @ gradients / len(gradients)
    trace = product.diagonal().sum()
    p = product.shape[0]
    if not trace > 0:
        return torch.eye(p, dtype=product.dtype, device=product.device)
    return product if scale == "none" else product * (p / trace)


class _Steps:
    """Counts solved systems and tells ``progress``, which may raise."""

    def __init__(self, progress: Progress, systems: int) -> None:
        self._progress = progress
        self._systems = systems
        self._done = 0
        progress(0, systems)

    def advance(self, systems: int = 1) -> None:
        self._done += systems
        self._progress(self._done, self._systems)

    def alive(self) -> None:
        self._progress(self._done, self._systems)


def _metric_of_all(
    best: _Candidate,
    x: Float[Tensor, "n p"],
    y: Float[Tensor, " n"],
    learner: RecursiveFeatureMachine,
    steps: _Steps,
) -> tuple[Float[Tensor, "p p"] | None, tuple[str, ...]]:
    """The metric after the best number of rounds on all samples; that of the split, and why, where a system fails."""
    metric = None
    for _ in range(best.rounds):
        kernel = LaplaceKernel(best.bandwidth, metric)
        try:
            weights, _mean = _solve(kernel, x, y, best.ridge)
        except KernelNotPositiveDefinite as reason:
            return best.metric, (f"the metric is that of the samples that were not held out: {reason}",)
        metric = average_gradient_outer_product(kernel.gradients(x, x, weights), learner.metric_scale)
        steps.advance()
    return metric, ()


def _ranked(
    candidates: Sequence[_Candidate], split: _Split, learner: RecursiveFeatureMachine, steps: _Steps
) -> list[_Candidate]:
    """Every candidate at its best round, best first.

    Raises:
        KernelNotPositiveDefinite: none of them has a finite error.
    """
    judged = []
    rounds = learner.rounds
    for candidate in candidates:
        path = list(_rounds(candidate, split, learner, steps))
        steps.advance(rounds + 1 - len(path))
        best = min(path, key=lambda fit: fit.held_out_nmse, default=candidate)
        was_improving = len(path) > rounds and all(
            fit.held_out_nmse > EQUAL * best.held_out_nmse for fit in path[:-1]
        )
        judged.append(replace(best, was_improving=was_improving))
    judged.sort(key=lambda fit: fit.held_out_nmse)
    if judged[0].held_out_nmse == float("inf"):
        raise KernelNotPositiveDefinite(
            "no bandwidth and ridge of the lists gives a finite held-out error; try larger ridges"
        )
    return judged


def _rounds(
    candidate: _Candidate, split: _Split, learner: RecursiveFeatureMachine, steps: _Steps
) -> Iterator[_Candidate]:
    """The candidate after 0 … ``learner.rounds`` updates of its metric; it ends early where a system is indefinite."""
    variance = split.scale()
    metric = None
    rounds = learner.rounds
    for updates in range(rounds + 1):
        kernel = LaplaceKernel(candidate.bandwidth, metric)
        try:
            weights, intercept = _solve(kernel, split.x, split.y, candidate.ridge)
        except KernelNotPositiveDefinite:
            return
        predicted = gram_times(kernel.block, split.held_out_x, split.x, weights[:, None])[:, 0] + intercept
        error = float((predicted - split.held_out_y).square().mean() / variance)
        yield replace(
            candidate,
            rounds=updates,
            held_out_nmse=error if error == error else float("inf"),  # noqa: PLR0124 - NaN is not itself
            metric=metric,
        )
        steps.advance()
        if updates < rounds:
            gradients = kernel.gradients(split.x, split.x, weights)
            metric = average_gradient_outer_product(gradients, learner.metric_scale)


def _solve(
    kernel: LaplaceKernel, x: Float[Tensor, "n p"], y: Float[Tensor, " n"], ridge: float
) -> tuple[Float[Tensor, " n"], float]:
    """Coefficients of the centred targets, and their mean."""
    gram = kernel.gram(x)
    gram.diagonal().add_(ridge)
    mean = y.mean()
    return solve_with_factor(factor_in_place(gram, beat), (y - mean)[:, None])[:, 0], float(mean)


def _edge_warnings(best: _Candidate, screened: Sequence[_Candidate]) -> Iterator[str]:
    """Ends of the lists that won by more than the held-out error can tell."""
    own = next(pair for pair in screened if (pair.bandwidth, pair.ridge) == (best.bandwidth, best.ridge))
    for name in ("bandwidth", "ridge"):
        value = getattr(best, name)
        values = sorted({getattr(pair, name) for pair in screened})
        inner = [pair.held_out_nmse for pair in screened if getattr(pair, name) in values[1:-1]]
        is_end = len(values) > 1 and value in (values[0], values[-1])
        if is_end and min(inner, default=float("inf")) > EQUAL * own.held_out_nmse:
            yield f"the best {name}, {value:g}, is an end of its list: a wider list may do better"
    if best.was_improving:
        yield f"the last round, {best.rounds}, was the best: more rounds may do better"
