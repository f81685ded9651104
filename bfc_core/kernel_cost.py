"""What kernel learners need of memory and time. Free of torch: planning reads it before anything is stored.

The seconds are processor seconds on one thread of a core with 80 GFLOP/s in float64 products, beside other work; how
far plans are off is the comparison ``planned_seconds`` of ``make bench``.
"""

from math import comb, prod
from typing import Literal

from bfc_core.specs import AnyKernel, KernelRidge
from bfc_core.specs.kernels import (
    ConvolutionalKernel,
    ConvolutionalNetworkKernel,
    NngpKernel,
    NtkKernel,
    PlainKernel,
    bandwidths_of,
    plain_kernels,
)

Solver = Literal["exact", "nystrom", "iterative"]

BLOCK_ROWS = 512
"""Rows of a block of a gram: 512 × 512 float64 are 2 MiB, the size of a core's cache."""

PANEL = 192
"""Columns of a block of a Cholesky factor: docs/decisions/0031-cholesky-in-place.md."""

PIXEL_PAIRS_AT_ONCE = 2**17
"""Pairs of pixels of a tile of image pairs: the half dozen arrays of the recursion stay in the cache."""

EIGENDECOMPOSITION_LIMIT = 2000
"""Up to this n the ridge path comes from one eigendecomposition; above it, from refits around the optimum."""

FEW_RIDGES = 4
"""Up to so many ridges are refitted one by one: an eigendecomposition costs as much as 4 to 7 refits with
leave-one-out."""

SMALL = 300
"""Samples up to which an eigendecomposition takes a few milliseconds and is always made."""

SHARED_LIMIT_BYTES = 2**29

SUBSAMPLE = 1000
"""Points on which a bandwidth is chosen and the optimal ridge is first bracketed."""

FEATURE_MACHINE_SUBSAMPLE = 1500
"""Points on which a feature machine tries all pairs of bandwidth and ridge."""

FINALISTS = 2
"""Pairs that a feature machine then tries on all samples."""

_FLOAT = 8

_NYSTROM_ROWS = 4 * BLOCK_ROWS

EIGENDECOMPOSITION_SECONDS = 1.8e-10
_CHOLESKY = 7e-12
_INVERSE_DIAGONAL = 1.1e-11
"""Seconds of each, divided by n³."""

_PAIR = 2e-8
_PAIR_BY_KIND = {"rbf": 5e-9, "laplace": 1.2e-8, "polynomial": 8e-9, "arc_cosine": 1.6e-8}
_PAIR_AND_LAYER = 1.4e-8
_PAIR_WITH_GRADIENT = 2.5e-8
"""Seconds to evaluate a kernel on one pair of points: one that is not known, by kind, a layer of a network's kernel,
and Laplace with gradients."""

_PIXEL_PAIR = 2.3e-8
"""Seconds of a convolution with its ReLU on one pair of pixels of one pair of images."""

_MULTIPLY_ADD = 3e-11
"""Seconds in a matrix product."""

TYPICAL_ITERATIONS = 15
"""Steps of conjugate gradients."""

REFITS = 3.7
"""Refits at full size that the walk to the best ridge takes, with those at half the size counted as an eighth."""


def kernel_memory_bytes(
    n: int,
    test_samples: int,
    ridges: int | None = None,
    rank: int | None = None,
    solver: Solver = "exact",
    centres: int = 1000,
) -> int:
    """Peak bytes of ``kernel_ridge`` on n samples, with predictions on ``test_samples`` points.

    An eigendecomposition holds the gram, the eigenvectors and two matrices of workspace, and while a kernel is chosen
    on all samples the best one's eigenvectors; a refit happens in the
    memory of the gram, beside what the subsample that brackets the ridge leaves in the allocator. The
    approximations hold such matrices of their centres only, and the iterative solver the centres' features of all
    samples, twice. Predictions are made in blocks.
    """
    blocks = _blocks(n, test_samples)
    if solver != "exact":
        used = min(n, centres)
        features = 2 * n if solver == "iterative" else 3 * _NYSTROM_ROWS
        return _FLOAT * (6 * used**2 + features * used + blocks)
    if rank is not None and is_solved_by_features(n, rank):
        return _FLOAT * (5 * rank**2 + 4 * BLOCK_ROWS * rank + blocks)
    if is_solved_by_eigendecomposition(n, ridges):
        return _FLOAT * ((5 if n <= SUBSAMPLE else 4) * n**2 + blocks)
    left_of_bracketing = 3 * min(n, SUBSAMPLE) ** 2
    return _FLOAT * (n**2 + left_of_bracketing + blocks)


def feature_machine_memory_bytes(n: int, test_samples: int, dim: int = 0) -> int:
    """Peak bytes of ``recursive_feature_machine``; ``dim`` is that of what its feature map makes.

    The gram is factored in place, gradients come in blocks; half a gram of the tuning subsample stays in the allocator.
    The metric's root takes its eigenvectors and what finding them needs.
    """
    left_of_tuning = min(n, FEATURE_MACHINE_SUBSAMPLE) ** 2 // 2
    return _FLOAT * (n**2 + left_of_tuning + _blocks(n, test_samples) + 6 * dim**2 + 4 * n * dim)


def polynomial_rank(dim: int, degree: int, offset: float) -> int:
    """Monomials of a polynomial kernel: C(dim + degree, degree), or without offset the homogeneous ones."""
    variables = dim + 1 if offset > 0 else dim
    return comb(variables + degree - 1, degree)


def is_solved_by_features(n: int, rank: int | None) -> bool:
    """Whether a kernel of finite rank is solved through its features: exact whenever possible, cheaper from here."""
    return rank is not None and 2 * rank <= n


def is_solved_by_eigendecomposition(n: int, ridges: int | None) -> bool:
    """Whether the path comes from one eigendecomposition: not for many samples, and not for a few ridges."""
    few = ridges is not None and ridges <= FEW_RIDGES and n > SMALL
    return n <= EIGENDECOMPOSITION_LIMIT and not few


def shared_memory_bytes(n: int) -> int:
    """Most bytes that a pack keeps of grams and eigendecompositions for its other runs on n samples."""
    return min(2 * _FLOAT * n**2, SHARED_LIMIT_BYTES)


def kernel_seconds(
    n: int,
    test_samples: int,
    candidates: int,
    rank: int | None,
    pair: float = _PAIR,
    ridges: int | None = None,
    solver: Solver = "exact",
    centres: int = 1000,
) -> float:
    """Seconds of ``kernel_ridge``.

    ``candidates`` are the kernels to choose from, ``rank`` is None if infinite, ``pair`` are the seconds to evaluate
    the kernel on one pair of points, ``ridges`` is the length of a grid of the learner's own.
    """
    screened = min(n, SUBSAMPLE)
    seconds = (candidates if candidates > 1 else 0) * (
        EIGENDECOMPOSITION_SECONDS * screened**3 + pair * screened**2
    )
    if solver != "exact":
        used = min(n, centres)
        seconds += (
            2 * pair * n * used + EIGENDECOMPOSITION_SECONDS * used**3 + _MULTIPLY_ADD * 4.0 * n * used**2
        )
        if solver == "iterative":
            # Most steps are in float32.
            step = pair / 2 * n * n / 2 + 4 * _MULTIPLY_ADD * n * used
            return seconds + TYPICAL_ITERATIONS * step + pair * n * test_samples
        return seconds + pair * used * test_samples
    if rank is not None and is_solved_by_features(n, rank):
        products = 3 * n * rank**2 + 40 * (n + test_samples) * rank
        return seconds + EIGENDECOMPOSITION_SECONDS * rank**3 + _MULTIPLY_ADD * products
    seconds += pair * n * (n / 2 + test_samples)
    if is_solved_by_eigendecomposition(n, ridges):
        is_decomposed = candidates > 1 and n <= SUBSAMPLE
        return seconds + (0 if is_decomposed else EIGENDECOMPOSITION_SECONDS * n**3)
    refit = (_CHOLESKY + _INVERSE_DIAGONAL) * float(n) ** 3
    if ridges is not None and (n <= EIGENDECOMPOSITION_LIMIT or ridges == 1):
        return seconds + ridges * refit
    return seconds + EIGENDECOMPOSITION_SECONDS * SUBSAMPLE**3 + REFITS * refit


def feature_machine_seconds(
    n: int, test_samples: int, pairs: int, rounds: int, validation_fraction: float, dim: int = 0
) -> float:
    """Seconds of ``recursive_feature_machine`` with ``pairs`` of bandwidth and ridge to choose from.

    ``dim`` is that of what its feature map makes: every round takes the root of a metric of so many rows.
    """
    root = EIGENDECOMPOSITION_SECONDS * float(dim) ** 3

    def solve(samples: float) -> float:
        pair = _PAIR_WITH_GRADIENT + 2 * _MULTIPLY_ADD * dim
        return _CHOLESKY * samples**3 + pair * samples**2 + root

    trained = 1 - validation_fraction
    seconds = pairs * (rounds + 1) * solve(trained * min(n, FEATURE_MACHINE_SUBSAMPLE)) + (
        rounds + 1
    ) * solve(n)
    if n > FEATURE_MACHINE_SUBSAMPLE:
        seconds += min(FINALISTS, pairs) * (rounds + 1) * solve(trained * n)
    return seconds + (_PAIR + _MULTIPLY_ADD * dim) * n * test_samples


def kernel_ridge_memory_bytes(learner: KernelRidge, n: int, dim: int, test_samples: int) -> int:
    """``kernel_memory_bytes`` of a spec; ``dim`` is that of what its feature map makes."""
    return kernel_memory_bytes(
        n, test_samples, _ridges(learner), kernel_rank(learner.kernel, dim), learner.solver, learner.centres
    )


def kernel_ridge_seconds(learner: KernelRidge, n: int, dim: int, test_samples: int) -> float:
    """``kernel_seconds`` of a spec; ``dim`` is that of what its feature map makes."""
    kernel = learner.kernel
    return kernel_seconds(
        n,
        test_samples,
        prod(len(values) for values in bandwidths_of(kernel).values()),
        kernel_rank(kernel, dim),
        sum(_MULTIPLY_ADD * dim + pair_seconds(part) for part in plain_kernels(kernel)),
        _ridges(learner),
        learner.solver,
        learner.centres,
    )


def pair_seconds(kernel: PlainKernel) -> float:
    """Seconds to evaluate a kernel on one pair of points."""
    if isinstance(kernel, NngpKernel | NtkKernel):
        return _PAIR_AND_LAYER * kernel.depth
    if not isinstance(kernel, ConvolutionalNetworkKernel):
        return _PAIR_BY_KIND[kernel.kind]
    pixels = kernel.image[0] * kernel.image[1]
    follows_all_pairs = not isinstance(kernel, ConvolutionalKernel) or kernel.readout == "average"
    pairs = pixels**2 if follows_all_pairs else pixels
    evaluated = 0
    for operation in kernel.operations:
        if operation == "pool":
            pairs //= 16
        else:
            evaluated += pairs
    return _PAIR + _PIXEL_PAIR * evaluated


def kernel_rank(kernel: AnyKernel, dim: int) -> int | None:
    """Number of explicit features of a kernel, None if infinite."""
    return polynomial_rank(dim, kernel.degree, kernel.offset) if kernel.kind == "polynomial" else None


def _ridges(learner: KernelRidge) -> int | None:
    return None if learner.ridges is None else len(learner.ridges)


def _blocks(n: int, test_samples: int) -> int:
    """Numbers in the temporary blocks: those of one gram block, a panel of the inverse factor, the vectors."""
    return 8 * BLOCK_ROWS**2 + 3 * BLOCK_ROWS * n + 8 * (n + test_samples)
