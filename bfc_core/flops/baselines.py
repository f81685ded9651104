"""FLOPs that a plan expects of baselines, and standard counts of what scikit-learn does unseen. Free of torch."""

from itertools import pairwise
from typing import assert_never

from bfc_core.baseline_cost import KNOWN_FEATURES
from bfc_core.flops.algebra import eigendecomposition, product, singular_values
from bfc_core.flops.kernels import (
    DEFAULT_RIDGE_COUNT,
    FeatureFlops,
    PairFlops,
    TangentFlops,
    chosen_system_flops,
    eigendecomposition_path,
    kernel_flops,
    system_flops,
)
from bfc_core.specs import baselines as specs
from bfc_core.specs.baselines import feature_count
from bfc_core.specs.kernels import variants

LIMIT_ROWS = 64
"""Samples on which a finite network's tangent kernel is compared with its limit."""

POWER_ITERATIONS = 60
STARTS = 20
"""Of the power iteration on a moment tensor: steps, and random starts for every component."""


def boosting(n: int, dim: int, depth: int, trees: int) -> int:
    """Histogram boosting: on every level of a tree one addition a sample and feature (arXiv:1706.08359, §2)."""
    return n * dim * depth * trees


def sparse_path(method: str, n: int, features: int, steps: int) -> int:
    """Steps of LARS, or of orthogonal matching pursuit, from the features themselves.

    A step k correlates all features with one vector, 2 n p, and updates a factor and a fit of k terms: 2 n k
    (B. Efron and others, "Least Angle Regression", 2004, §7), 4 n k where the residual is formed anew.
    """
    return steps * product(n, features, 1) + (2 if method == "omp" else 1) * n * steps**2


def dictionary(rows: int, dim: int, atoms: int, nonzero: int, batches: int) -> int:
    """Online dictionary learning (J. Mairal and others, "Online Learning for Matrix Factorization", 2010).

    Of ``rows`` rows in all: codes of ``nonzero`` atoms from their correlations, and both sufficient statistics; in
    every batch the atoms' gram and their update.
    """
    return codes(rows, dim, atoms, nonzero) + rows * 2 * atoms * (atoms + dim) + batches * 4 * atoms**2 * dim


def codes(rows: int, dim: int, atoms: int, nonzero: int) -> int:
    """Orthogonal matching pursuit of every row, from the atoms' gram."""
    return rows * (product(1, dim, atoms) + atoms * nonzero**2)


def tangent_flops(dim: int, width: int, depth: int) -> TangentFlops:
    """Of a dense network: by layer an inner product of its inputs and one of its slopes; a row passes twice."""
    layers = list(pairwise([dim, *[width] * depth, 1]))
    forward = sum(product(1, into, out) for into, out in layers[:-1])
    back = sum(product(1, out, into) for into, out in layers[1:])
    pair = sum(2 * (into + out) for into, out in layers)
    return TangentFlops(pair, row=forward + back, diagonal=forward + back)


def feature_flops(features: int, row: int) -> FeatureFlops:
    """Of a kernel of so many features, where those of one row cost ``row``."""
    return FeatureFlops(2 * features, row=row, diagonal=row)


def quadratic_network_value(dim: int, widths: tuple[int, int], rows: int, *, upper: bool) -> int:
    """f̂ of so many rows; without ``upper`` the second layer is left out."""
    lower, above = widths
    value = product(rows, dim, lower) + product(rows, lower, 1)
    return value + (product(rows, lower, above) + product(rows, above, 1) if upper else 0)


def quadratic_network_step(dim: int, widths: tuple[int, int], batch: int, *, upper: bool) -> int:
    """A step of autograd: every product of the value once more for its weights, one for what reaches h."""
    reaches = product(batch, widths[1], widths[0]) if upper else 0
    return 2 * quadratic_network_value(dim, widths, batch, upper=upper) + reaches


def planned_baseline_flops(  # noqa: C901, PLR0911, PLR0912 - one case a kind
    learner: specs.AnyBaseline,
    n: int,
    dim: int,
    test_samples: int,
    targets: int = 1,
    known: int = KNOWN_FEATURES,
) -> int:
    """FLOPs of one fit, tuned to the end of its lists, with its predictions; ``known`` is what an oracle gives away."""
    match learner:
        case specs.EmpiricalNtk():
            tangent = tangent_flops(dim, learner.width, learner.depth)
            rows = min(n, LIMIT_ROWS)
            limit = tangent.gram(rows) + PairFlops(2 * dim).gram(rows)
            return system_flops(tangent, n, test_samples, targets, _count(learner.ridges)) + limit
        case specs.RandomFeatures():
            candidates = len(learner.bandwidths) if learner.features == "fourier" else 1
            features = feature_flops(learner.count, product(1, dim, learner.count))
            ridges = _count(learner.ridges)
            cost = (features, n, test_samples, targets, ridges, learner.count)
            return chosen_system_flops(*cost, candidates)
        case specs.FeatureMapRegression():
            return _feature_map_regression(learner, n, dim, test_samples, targets)
        case specs.SequentialKernel():
            return _sequential_kernel(learner, n, dim, test_samples)
        case specs.Linear():
            return _ridge_on(dim, 0, n, test_samples, learner.ridges, targets)
        case specs.NearestNeighbours():
            trained, held_out = _split(n, learner.validation_fraction)
            counts = {min(count, trained) for count in learner.neighbours}
            return len(counts) * product(held_out, dim, trained) + product(test_samples, dim, n)
        case specs.GradientBoosting():
            trained, _ = _split(n, learner.validation_fraction)
            tried = sum(boosting(trained, dim, depth, learner.most_trees) for depth in learner.depths)
            return len(learner.step_sizes) * tried + boosting(n, dim, max(learner.depths), learner.most_trees)
        case specs.Oracle():
            known = _ridge_on(known, 0, n, test_samples, learner.ridges, targets)
            return known if learner.knows == "features" else 0
        case specs.OneGiantStep():
            first, second = _split(n, 0.5)
            width = learner.width
            step = 2 * product(first, dim, width) + product(first, dim, 1) + singular_values(dim, width)
            return step + _ridge_on(width, product(1, dim, width), second, test_samples, learner.ridges)
        case specs.StagedSpectral():
            count = feature_count(dim, 2)
            halves = _split(n, 0.5)
            lower = sum(_ridge_on(count, 0, half, n - half + test_samples, learner.ridges) for half in halves)
            return lower + _ridge_on(learner.degree, 0, n, test_samples, learner.ridges)
        case specs.ForwardLofi():
            return _directions(n, dim) + _lofi(learner, n, dim, test_samples)
        case specs.BackLofi():
            trained, held_out = _split(n, learner.validation_fraction)
            tried = _directions(trained, dim) + _lofi(learner, trained, dim, held_out + trained)
            return (1 + learner.passes) * tried + _lofi(learner, n, dim, test_samples)
        case specs.TensorDecomposition():
            count = min(learner.components, dim)
            terms = feature_count(count, learner.degree)
            moments = _moment_components(n, dim, count) + _moment_components(n, dim, 1)
            return moments + _ridge_on(terms, product(1, dim, count), n, test_samples, learner.ridges)
        case specs.SparseCoding():
            nonzero = min(learner.nonzero, learner.atoms, dim)
            passes = 20
            learnt = dictionary(passes * n, dim, learner.atoms, nonzero, passes * -(-n // 256))
            row = codes(1, dim, learner.atoms, nonzero)
            return learnt + _ridge_on(2 * learner.atoms, row, n, test_samples, learner.ridges)
        case specs.QuadraticNetwork():
            second = learner.second != "again"
            steps = sum(
                quadratic_network_step(dim, learner.widths, learner.batch_size, upper=upper)
                for upper in (False, second)
            )
            value = quadratic_network_value(dim, learner.widths, n + test_samples, upper=second)
            return learner.steps_per_phase * steps + value + product(dim, learner.widths[0], dim)
        case _:
            assert_never(learner)


def _ridge_on(
    count: int,
    row: int,
    n: int,
    test_samples: int,
    ridges: tuple[float, ...] | None,
    targets: int = 1,
) -> int:
    """Ridge on so many features and a constant, which is scaled by all features once before."""
    features = feature_flops(count + 1, row)
    return n * row + system_flops(features, n, test_samples, targets, _count(ridges), count + 1)


def _feature_map_regression(
    learner: specs.FeatureMapRegression, n: int, dim: int, test_samples: int, targets: int
) -> int:
    count = feature_count(dim, learner.degree)
    if learner.method == "ridge":
        return _ridge_on(count, 0, n, test_samples, learner.ridges, targets)
    trained, held_out = _split(n, learner.validation_fraction)
    steps = min(learner.most_terms, count, trained - 1)
    tried = sparse_path(learner.method, trained, count, steps) + product(held_out, count, steps + 1)
    return tried + sparse_path(learner.method, n, count, steps) + product(test_samples, count, 1)


def _sequential_kernel(learner: specs.SequentialKernel, n: int, dim: int, test_samples: int) -> int:
    kernels, grid = len(variants(learner.kernel)), _count(learner.ridges) or DEFAULT_RIDGE_COUNT
    path = eigendecomposition(n) + eigendecomposition_path(n, n, 1, grid)
    # Of the best kernel the residuals sample by sample, from the same eigenvectors.
    left_out = 2 * product(n, n, 2) + product(n, n, 1)
    flops = 0
    for stage in range(learner.stages):
        pairs = kernel_flops(learner.kernel, dim + stage)
        flops += kernels * (pairs.gram(n) + path) + left_out + pairs.predictions(test_samples, n)
    return flops


def _directions(n: int, length: int) -> int:
    """E[(y − ȳ) z zᵀ] and its eigenvectors."""
    return product(length, n, length) + eigendecomposition(length)


def _lofi(learner: specs.ForwardLofi | specs.BackLofi, n: int, dim: int, test_samples: int) -> int:
    """A network on its first layer's filters, and ridge on what it answers."""
    length, row, flops, outputs = dim, 0, 0, 0
    for layer in range(learner.layers):
        if layer > 0:
            flops += n * row + _directions(n, length)
        filters = min(learner.filters, length)
        own = product(1, length, filters)
        flops += n * own
        row += own
        outputs = filters + filters * (filters + 1) // 2
        length = dim + outputs
    return flops + row + _ridge_on(length, row, n, test_samples, learner.ridges)


def _moment_components(n: int, dim: int, count: int) -> int:
    """Power iterations: every start seen by every sample and back, with what was found before taken out."""
    flops = 0
    for found in range(count):
        image = 2 * product(n, dim, STARTS) + product(STARTS, n, 1)
        flops += POWER_ITERATIONS * (image + 2 * product(dim, found, STARTS))
    return flops


def _split(n: int, fraction: float) -> tuple[int, int]:
    """Samples that are trained on and held out, as ``FitContext.split`` has them."""
    held_out = min(n - 2, max(2, round(fraction * n)))
    return n - held_out, held_out


def _count(ridges: tuple[float, ...] | None) -> int | None:
    return None if ridges is None else len(ridges)
