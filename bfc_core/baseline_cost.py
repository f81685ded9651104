"""What the baselines need of memory and time. Free of torch: planning reads it before anything is stored.

Operation counts, with the rates of ``kernel_cost``; scikit-learn's parts from what they took on the same core.
"""

from typing import assert_never

from bfc_core.kernel_cost import (
    BLOCK_ROWS,
    EIGENDECOMPOSITION_SECONDS,
    SUBSAMPLE,
    kernel_memory_bytes,
    kernel_seconds,
    pair_seconds,
)
from bfc_core.specs import baselines as specs
from bfc_core.specs.baselines import feature_count
from bfc_core.specs.kernels import plain_kernels, variants

_FLOAT = 8
_MULTIPLY_ADD = 3e-11
_TREE_SAMPLE = 4e-8
"""Seconds a tree, sample and feature of gradient boosting."""

BATCHES_DRAWN = 250
"""Batches of a quadratic network whose rows are drawn at a time."""

_NETWORK_STEP = 2e-4
"""Seconds of a step of a small network, whatever its sizes."""

_SINGULAR_VALUES = 1.3e-10
"""Seconds of the singular values of an m × n matrix, divided by m n² with m ≥ n."""

KNOWN_FEATURES = 64
"""Features that an oracle may be expected to give away where its target is not known."""

_LARS_STEP = 3e-9
"""Seconds a step, sample and feature of a sparse path."""


def baseline_seconds(  # noqa: C901, PLR0911, PLR0912
    learner: specs.AnyBaseline, n: int, dim: int, test_samples: int, known: int = KNOWN_FEATURES
) -> float:
    """Seconds of one fit with its predictions, on one core; ``known`` features are what an oracle gives away."""
    rows = n + test_samples
    match learner:
        case specs.EmpiricalNtk():
            weights = learner.width * dim + (learner.depth - 1) * learner.width**2
            passes = 2 * weights * rows * max(1, n / BLOCK_ROWS / 2)
            products = 2 * learner.depth * learner.width * n * (n / 2 + test_samples)
            return kernel_seconds(n, test_samples, 1, None) + _MULTIPLY_ADD * (passes + products)
        case specs.RandomFeatures():
            candidates = len(learner.bandwidths) if learner.features == "fourier" else 1
            features = _MULTIPLY_ADD * 20 * dim * learner.count * (2 * n + test_samples)
            return features + kernel_seconds(n, test_samples, candidates, learner.count)
        case specs.FeatureMapRegression():
            count = feature_count(dim, learner.degree)
            features = _MULTIPLY_ADD * 40 * learner.degree * count * rows
            if learner.method == "ridge":
                return features + kernel_seconds(n, test_samples, 1, count)
            return features + 2 * _LARS_STEP * learner.most_terms * n * count
        case specs.SequentialKernel():
            pair = sum(map(pair_seconds, plain_kernels(learner.kernel)))
            each = kernel_seconds(min(n, 2000), test_samples, 1, None, pair) * max(1.0, (n / 2000) ** 3)
            return learner.stages * len(variants(learner.kernel)) * each
        case specs.Linear():
            return kernel_seconds(n, test_samples, 1, dim)
        case specs.NearestNeighbours():
            return 2e-8 * n * (0.2 * n * len(learner.neighbours) + test_samples)
        case specs.GradientBoosting():
            fits = 1 + len(learner.depths) * len(learner.step_sizes)
            return fits * learner.most_trees * (2e-3 + _TREE_SAMPLE * n * dim)
        case specs.Oracle():
            return kernel_seconds(n, test_samples, 1, known) if learner.knows == "features" else 0.0
        case specs.OneGiantStep():
            spectrum = _SINGULAR_VALUES * min(dim, learner.width) ** 2 * max(dim, learner.width)
            step = _MULTIPLY_ADD * 4 * dim * learner.width * rows
            return step + spectrum + kernel_seconds(n // 2, test_samples, 1, learner.width)
        case specs.StagedSpectral():
            lower = kernel_seconds(n // 2, rows, 1, feature_count(dim, 2))
            return 2 * lower + kernel_seconds(n, test_samples, 1, 8)
        case specs.ForwardLofi():
            return _lofi_seconds(learner, n, dim, test_samples)
        case specs.BackLofi():
            return (2 + learner.passes) * _lofi_seconds(learner, n, dim, test_samples)
        case specs.TensorDecomposition():
            power = 60 * 20 * 4 * learner.components * n * dim
            terms = feature_count(min(learner.components, dim), learner.degree)
            return _MULTIPLY_ADD * power + kernel_seconds(n, test_samples, 1, terms)
        case specs.SparseCoding():
            return 1e-4 * (20 * n + 3 * rows) + kernel_seconds(n, test_samples, 1, 2 * learner.atoms)
        case specs.QuadraticNetwork():
            lower, upper = learner.widths
            products = _MULTIPLY_ADD * lower * (dim + upper)
            steps = 2 * learner.steps_per_phase * (_NETWORK_STEP + 3 * products * learner.batch_size)
            return steps + products * rows
        case _:
            assert_never(learner)


def baseline_memory_bytes(  # noqa: C901, PLR0911, PLR0912
    learner: specs.AnyBaseline, n: int, dim: int, test_samples: int, known: int = KNOWN_FEATURES
) -> int:
    """Peak bytes of one fit with its predictions; ``known`` features are what an oracle gives away."""
    samples = 3 * (n + test_samples) * dim
    match learner:
        case specs.EmpiricalNtk():
            factors = 4 * n * (learner.width * learner.depth + dim)
            weights = learner.width * dim + (learner.depth - 1) * learner.width**2
            return kernel_memory_bytes(n, test_samples) + _FLOAT * (factors + weights + samples)
        case specs.RandomFeatures():
            return _explicit(learner.count, n, test_samples) + _FLOAT * (samples + dim * learner.count)
        case specs.FeatureMapRegression():
            count = feature_count(dim, learner.degree)
            if learner.method == "ridge":
                return _explicit(count, n, test_samples) + _FLOAT * samples
            steps = learner.most_terms * count
            return _FLOAT * (4 * n * count + 3 * steps + samples)
        case specs.SequentialKernel():
            return _FLOAT * (5 * n**2 + BLOCK_ROWS * 4 * n + samples)
        case specs.GradientBoosting() | specs.NearestNeighbours():
            return _FLOAT * (2 * samples + 6 * BLOCK_ROWS * n) + 2**26
        case specs.OneGiantStep():
            extra = _FLOAT * (samples + 3 * (n + dim) * learner.width)
            return _explicit(learner.width, n, test_samples) + extra
        case specs.Linear():
            return _explicit(max(dim, KNOWN_FEATURES), n, test_samples) + _FLOAT * samples
        case specs.Oracle():
            return _explicit(max(known, KNOWN_FEATURES), n, test_samples) + _FLOAT * samples
        case specs.StagedSpectral():
            return _explicit(feature_count(dim, 2), n, test_samples) + _FLOAT * samples
        case specs.ForwardLofi() | specs.BackLofi():
            outputs = _lofi_outputs(learner, dim)
            # A layer's moment, its eigenvectors and what finding them takes.
            moments = 4 * (outputs if learner.layers > 1 else dim) ** 2
            return _explicit(outputs, n, test_samples) + _FLOAT * (samples + 4 * n * outputs + moments)
        case specs.TensorDecomposition():
            terms = feature_count(min(learner.components, dim), learner.degree)
            return _explicit(terms, n, test_samples) + _FLOAT * (samples + 80 * n)
        case specs.SparseCoding():
            return _explicit(2 * learner.atoms, n, test_samples) + _FLOAT * (samples + 4 * n * learner.atoms)
        case specs.QuadraticNetwork():
            neurons = sum(learner.widths)
            drawn = BATCHES_DRAWN * learner.batch_size
            return _FLOAT * (samples + drawn + (8 * learner.batch_size + 16 * BLOCK_ROWS) * neurons) + 2**24
        case _:
            assert_never(learner)


def _explicit(count: int, n: int, test_samples: int) -> int:
    """Ridge on ``count`` features; where there are more than half as many as samples, with the features beside."""
    beside = _FLOAT * 2 * count * (max(n, SUBSAMPLE) if 2 * count > n else 4 * BLOCK_ROWS)
    return kernel_memory_bytes(n, test_samples, rank=count) + beside


def _lofi_seconds(learner: specs.ForwardLofi | specs.BackLofi, n: int, dim: int, test_samples: int) -> float:
    """The moment of what every layer reads and its eigenvectors, then ridge on what the last one answers."""
    outputs = _lofi_outputs(learner, dim)
    lengths = [dim, *[outputs] * (learner.layers - 1)]
    directions = sum(
        _MULTIPLY_ADD * n * length**2 + EIGENDECOMPOSITION_SECONDS * length**3 for length in lengths
    )
    return directions + kernel_seconds(n, test_samples, 1, outputs)


def _lofi_outputs(learner: specs.ForwardLofi | specs.BackLofi, dim: int) -> int:
    filters = learner.filters
    return dim + filters + filters * (filters + 1) // 2
