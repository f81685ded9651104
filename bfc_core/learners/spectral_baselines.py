"""Baselines that find directions from moments of the data, then regress on what they see in them."""

from itertools import combinations_with_replacement
from math import pi, sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.flops.baselines import POWER_ITERATIONS, STARTS
from bfc_core.kernels.explicit import product_features
from bfc_core.learners.baseline import FitContext, FittedFunction, ridge_on
from bfc_core.learners.predictor import Selection
from bfc_core.specs.baselines import BackLofi, ForwardLofi, OneGiantStep, StagedSpectral, TensorDecomposition
from bfc_core.spread import spread_of

ABOVE_NOISE = 2.0
"""A moment that is no larger than this many times what shuffled labels show is called noise."""


def fit_one_giant_step(
    learner: OneGiantStep, x: Float[Tensor, "n d"], y: Float[Tensor, " n"], context: FitContext
) -> FittedFunction:
    """Half of the samples move the first layer once, the other half fit the second (arXiv:2205.01445).

    With f(x) = Σ_j a_j φ(w_j·x)/√m, a_j = ±1 and w_j uniform on the unit sphere, the step is
    w_j ← w_j + step_size · √m · (1/n) Σ_i (y_i − ȳ) a_j φ′(w_j·x_i) x_i / √m: the output at the start is small and
    left out of the residual, as in the paper.
    """
    dim, width, generator = x.shape[1], learner.width, context.initial()
    weights = torch.randn(dim, width, generator=generator, dtype=torch.float64)
    weights /= weights.norm(dim=0)
    signs = torch.randint(0, 2, (width,), generator=generator).double().mul_(2).sub_(1)
    first, second = context.split(len(x), 0.5)
    residual = (y[first] - y[first].mean())[:, None]
    slopes = _slope(learner.activation, x[first] @ weights)
    gradient = x[first].mT @ (residual * slopes) / len(first)
    moved = weights + learner.step_size * signs * gradient

    def features(rows: Tensor) -> Tensor:
        hidden = rows @ moved
        active = hidden.clamp_min_(0.0) if learner.activation == "relu" else torch.erf(hidden)
        return active.mul_(1 / sqrt(width))

    fitted = ridge_on(features, width, x[second], y[second], learner.ridges, context)
    sizes = torch.linalg.svdvals(gradient)
    spike = float(sizes[0].square() / sizes.square().sum()) if float(sizes[0]) > 0 else 0.0
    # The rank-one part of the gradient: every neuron moves along this direction, by its sign.
    direction = x[first].mT @ residual / len(first)
    return FittedFunction(
        fitted,
        fitted.selection | {"gradient_share_of_spike": spike},
        fitted.warnings,
        lambda rows: {1: rows @ direction},
    )


def fit_staged_spectral(
    learner: StagedSpectral, x: Float[Tensor, "n d"], y: Float[Tensor, " n"], context: FitContext
) -> FittedFunction:
    """p̂ from ridge on Hermite products of degree ≤ 2, one on each half; a polynomial of the other half's p̂.

    Fresh points see the mean of the two p̂: the second stage is never fitted on what the first has memorised.
    """
    halves = context.split(len(x), 0.5)
    function, count = product_features(x.shape[1], 2, "hermite")
    lower = [ridge_on(function, count, x[rows], y[rows], learner.ridges, context) for rows in halves]
    seen = torch.empty_like(y)
    seen[halves[1]], seen[halves[0]] = lower[0](x[halves[1]]), lower[1](x[halves[0]])
    centre, spread = seen.mean(), seen.std().clamp_min(torch.finfo(seen.dtype).tiny)
    low, high = seen.min(), seen.max()

    def scaled(values: Tensor) -> Tensor:
        return ((values.clamp(low, high) - centre) / spread)[:, None]

    def estimate(rows: Tensor) -> Tensor:
        return scaled((lower[0](rows) + lower[1](rows)) / 2)

    powers, terms = product_features(1, learner.degree, "hermite")
    upper = ridge_on(powers, terms, scaled(seen), y, learner.ridges, context)
    selection: Selection = {f"lower.{name}": value for name, value in lower[0].selection.items()}
    return FittedFunction(
        lambda rows: upper(estimate(rows)),
        selection | upper.selection,
        (*lower[0].warnings, *upper.warnings),
        lambda rows: {1: estimate(rows)},
    )


class _LofiLayer:
    """k filters; outputs are their values and all products of two, standardised on the training samples.

    A filter outside the span of few samples sees 0 on all of them, up to rounding: its outputs are 0 everywhere.
    """

    def __init__(self, filters: Float[Tensor, "i k"], inputs: Float[Tensor, "n i"]) -> None:
        self.filters = filters
        self._mean, self._spread = torch.zeros(()), torch.ones(())
        raw = self._raw(inputs)
        self._mean = raw.mean(0)
        length = inputs.square().sum(1).mean().sqrt()
        sizes = torch.full_like(self._mean, float(length.square()))
        sizes[: filters.shape[1]] = length
        self._spread = spread_of(raw, sizes)

    def __call__(self, inputs: Float[Tensor, "n i"]) -> Float[Tensor, "n o"]:
        return (self._raw(inputs) - self._mean) / self._spread

    def _raw(self, inputs: Float[Tensor, "n i"]) -> Float[Tensor, "n o"]:
        seen = inputs @ self.filters
        pairs = torch.tensor(list(combinations_with_replacement(range(seen.shape[1]), 2)))
        return torch.cat([seen, seen[:, pairs[:, 0]] * seen[:, pairs[:, 1]]], dim=1)


class _LofiNetwork:
    """Layers from the bottom up; each but the first also reads x."""

    def __init__(
        self,
        first: Float[Tensor, "d k"],
        layers: int,
        filters: int,
        x: Float[Tensor, "n d"],
        y: Float[Tensor, " n"],
    ) -> None:
        self.layers = [_LofiLayer(first, x)]
        for _ in range(layers - 1):
            inputs = self.inputs_of(len(self.layers), x)
            directions, _ = spectral_directions(inputs, y, min(filters, inputs.shape[1]))
            self.layers.append(_LofiLayer(directions, inputs))

    def inputs_of(self, layer: int, x: Float[Tensor, "n d"]) -> Float[Tensor, "n i"]:
        """What the layer at this position reads."""
        values = x
        for below in self.layers[:layer]:
            outputs = below(values)
            values = torch.cat([x, outputs], dim=1)
        return values

    def __call__(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n o"]:
        return self.inputs_of(len(self.layers), x)


def spectral_directions(
    z: Float[Tensor, "n i"], y: Float[Tensor, " n"], count: int
) -> tuple[Float[Tensor, "i count"], Float[Tensor, " count"]]:
    """Eigenvectors of E[(y − ȳ) z zᵀ] with the eigenvalues of largest size, those eigenvalues beside them."""
    moment = z.mT @ ((y - y.mean())[:, None] * z) / len(z)
    values, vectors = torch.linalg.eigh(moment)
    order = values.abs().argsort(descending=True)[:count]
    return vectors[:, order], values[order]


def fit_forward_lofi(
    learner: ForwardLofi, x: Float[Tensor, "n d"], y: Float[Tensor, " n"], context: FitContext
) -> FittedFunction:
    """Layer by layer, never back."""
    first, _ = spectral_directions(x, y, min(learner.filters, x.shape[1]))
    network = _LofiNetwork(first, learner.layers, learner.filters, x, y)
    head = ridge_on(network, network(x[:1]).shape[1], x, y, learner.ridges, context)
    return FittedFunction(head, head.selection, head.warnings)


def fit_back_lofi(
    learner: BackLofi, x: Float[Tensor, "n d"], y: Float[Tensor, " n"], context: FitContext
) -> FittedFunction:
    """Forward, then passes that swap a quarter of the first layer's filters for directions of the residual."""
    trained, held_out = context.split(len(x), learner.validation_fraction)
    filters = min(learner.filters, x.shape[1])
    first, strengths = spectral_directions(x[trained], y[trained], filters)

    def attempt(candidate: Tensor) -> tuple[float, Tensor]:
        network = _LofiNetwork(candidate, learner.layers, learner.filters, x[trained], y[trained])
        head = ridge_on(network, network(x[:1]).shape[1], x[trained], y[trained], learner.ridges, context)
        error = float((head(x[held_out]) - y[held_out]).square().mean())
        return error, y[trained] - head(x[trained])

    error, residual = attempt(first)
    swaps, tried = 0, 1
    for _ in range(learner.passes):
        count = max(1, filters // 4)
        found, sizes = spectral_directions(x[trained], residual, count)
        weakest = strengths.abs().argsort()[:count]
        candidate, candidate_strengths = first.clone(), strengths.clone()
        candidate[:, weakest], candidate_strengths[weakest] = found, sizes
        new_error, new_residual = attempt(candidate)
        tried += 1
        if not new_error < error:
            break
        error, residual, first, strengths = new_error, new_residual, candidate, candidate_strengths
        swaps += count
    network = _LofiNetwork(first, learner.layers, learner.filters, x, y)
    head = ridge_on(network, network(x[:1]).shape[1], x, y, learner.ridges, context)
    selection = head.selection | {
        "filters_swapped": swaps,
        "held_out_mse": error,
        "networks_tried": tried,
        "validation_samples": len(held_out),
    }
    return FittedFunction(head, selection, head.warnings)


def fit_tensor_decomposition(
    learner: TensorDecomposition, x: Float[Tensor, "n d"], y: Float[Tensor, " n"], context: FitContext
) -> FittedFunction:
    """Components of E[(y − ȳ) He_k(x)], then ridge on products up to the degree of what x shows along them."""
    count = min(learner.components, x.shape[1])
    directions, values = moment_components(x, y, learner.order, count, context.initial())
    # What the same search finds where there is nothing to find: the labels in another order.
    shuffled = y[torch.randperm(len(y), generator=context.initial())]
    noise = float(moment_components(x, shuffled, learner.order, 1, context.initial())[1].abs().max())
    warnings: tuple[str, ...] = ()
    if not float(values.abs().max()) > ABOVE_NOISE * noise:
        warnings = (
            f"the moment of order {learner.order} is no larger than its noise: the directions are arbitrary",
        )
    function, terms = product_features(count, learner.degree, "hermite")
    fitted = ridge_on(lambda rows: function(rows @ directions), terms, x, y, learner.ridges, context)
    selection = fitted.selection | {
        "components": count,
        "largest_moment": float(values.abs().max()),
        "moment_noise": noise,
    }
    return FittedFunction(fitted, selection, (*warnings, *fitted.warnings))


def moment_components(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, " n"],
    order: int,
    count: int,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "d count"], Float[Tensor, " count"]]:
    """Power iteration u ← T(u, …, u, ·)/‖·‖ with deflation; T = E[(y − ȳ) He_order(x)], never formed.

    T(u, u, ·) = E[y ((u·x)² x − ‖u‖² x − 2 (u·x) u)] and
    T(u, u, u, ·) = E[y ((u·x)³ x − 3 ‖u‖² (u·x) x − 3 (u·x)² u + 3 ‖u‖² u)].
    """
    centred = (y - y.mean()) / len(x)
    found = torch.zeros(x.shape[1], 0, dtype=x.dtype)
    eigenvalues: list[Tensor] = []
    for _ in range(count):
        # Of all random starts the one with the largest eigenvalue is kept.
        u = torch.randn(x.shape[1], STARTS, generator=generator, dtype=x.dtype)
        u /= u.norm(dim=0)
        image = u
        for _ in range(POWER_ITERATIONS):
            seen = x @ u
            if order == 3:  # noqa: PLR2004
                image = x.mT @ (centred[:, None] * (seen.square() - 1)) - 2 * (centred @ seen) * u
            else:
                image = x.mT @ (centred[:, None] * (seen**3 - 3 * seen))
                image -= 3 * (centred @ (seen.square() - 1)) * u
            if eigenvalues:
                overlap = found.mT @ u
                image -= found @ (torch.stack(eigenvalues)[:, None] * overlap ** (order - 1))
            values = (image * u).sum(0)
            # Of an even tensor a negative eigenvalue flips u at every step: the sign is put back.
            u = image * values.sign() / image.norm(dim=0).clamp_min(1e-300)
        values = (image * u).sum(0)
        best = int(values.abs().argmax())
        found = torch.cat([found, u[:, [best]]], dim=1)
        eigenvalues.append(values[best])
    return found, torch.stack(eigenvalues)


def _slope(activation: str, z: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    if activation == "relu":
        return (z > 0).double()
    return z.square().neg_().exp_().mul_(2 / sqrt(pi))
