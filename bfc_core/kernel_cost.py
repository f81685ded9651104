"""What kernel learners need of memory and time. Free of torch: planning reads it before anything is stored.

The seconds were measured on one thread of a 25 GFLOP/s (float64) core: docs/decisions/0002-ridge-by-refits.md.
"""

from math import comb

BLOCK_ROWS = 512
"""Rows of a block of a gram: 512 × 512 float64 are 2 MiB, the size of a core's cache."""

EIGENDECOMPOSITION_LIMIT = 2000
"""Up to this n the ridge path comes from one eigendecomposition; above it, from refits around the optimum."""

SUBSAMPLE = 1000
"""Points on which a bandwidth is chosen and the optimal ridge is first bracketed."""

FEATURE_MACHINE_SUBSAMPLE = 1500
"""Points on which a feature machine tries all pairs of bandwidth and ridge."""

FINALISTS = 2
"""Pairs that a feature machine then tries on all samples."""

_FLOAT = 8

_EIGENDECOMPOSITION = 3.5e-10
_CHOLESKY = 1.6e-11
_INVERSE_DIAGONAL = 2.2e-11
"""Seconds of each, divided by n³."""

_PAIR = 3e-8
_PAIR_WITH_GRADIENT = 4.5e-8
"""Seconds to evaluate a kernel on one pair of points: the mean over the kernels, and Laplace with gradients."""

_MULTIPLY_ADD = 4e-11
"""Seconds in a matrix product."""

_REFITS = 3.7
"""Refits at full size that the walk to the best ridge takes, with those at half the size counted as an eighth."""


def kernel_memory_bytes(n: int, test_samples: int) -> int:
    """Peak bytes of ``kernel_ridge`` on n samples, with predictions on ``test_samples`` points.

    One eigendecomposition holds the gram, the eigenvectors and two matrices of workspace; a refit holds the
    gram, its factor and the copy of the factor that a triangular solver makes. Predictions are made in blocks.
    """
    matrices = 4 if n <= EIGENDECOMPOSITION_LIMIT else 3
    subsample = 4 * min(n, SUBSAMPLE) ** 2 if n > EIGENDECOMPOSITION_LIMIT else 0
    return _FLOAT * (matrices * n**2 + subsample + _blocks(n, test_samples))


def feature_machine_memory_bytes(n: int, test_samples: int) -> int:
    """Peak bytes of ``recursive_feature_machine``: the gram is factored in place, gradients come in blocks."""
    return _FLOAT * (n**2 + _blocks(n, test_samples))


def polynomial_rank(dim: int, degree: int, offset: float) -> int:
    """Monomials of a polynomial kernel: C(dim + degree, degree), or without offset the homogeneous ones."""
    variables = dim + 1 if offset > 0 else dim
    return comb(variables + degree - 1, degree)


def is_solved_by_features(n: int, rank: int | None) -> bool:
    """Whether a kernel of finite rank is solved through its features: exact whenever possible, cheaper from here."""
    return rank is not None and 2 * rank <= n


def kernel_seconds(n: int, test_samples: int, candidates: int, rank: int | None, parts: int = 1) -> float:
    """Seconds of ``kernel_ridge``.

    ``candidates`` are the kernels to choose from, ``rank`` is None if infinite, ``parts`` are the plain kernels
    that a sum or product is made of.
    """
    pair = parts * _PAIR
    screened = min(n, SUBSAMPLE)
    seconds = (candidates if candidates > 1 else 0) * (_EIGENDECOMPOSITION * screened**3 + pair * screened**2)
    if rank is not None and is_solved_by_features(n, rank):
        products = 3 * n * rank**2 + 40 * (n + test_samples) * rank
        return seconds + _EIGENDECOMPOSITION * rank**3 + _MULTIPLY_ADD * products
    seconds += pair * n * (n / 2 + test_samples)
    if n <= EIGENDECOMPOSITION_LIMIT:
        return seconds + _EIGENDECOMPOSITION * n**3
    return (
        seconds
        + _EIGENDECOMPOSITION * SUBSAMPLE**3
        + _REFITS * (_CHOLESKY + _INVERSE_DIAGONAL) * float(n) ** 3
    )


def feature_machine_seconds(
    n: int, test_samples: int, pairs: int, rounds: int, validation_fraction: float
) -> float:
    """Seconds of ``recursive_feature_machine`` with ``pairs`` of bandwidth and ridge to choose from."""

    def solve(samples: float) -> float:
        return _CHOLESKY * samples**3 + _PAIR_WITH_GRADIENT * samples**2

    trained = 1 - validation_fraction
    seconds = pairs * (rounds + 1) * solve(trained * min(n, FEATURE_MACHINE_SUBSAMPLE)) + solve(n)
    if n > FEATURE_MACHINE_SUBSAMPLE:
        seconds += min(FINALISTS, pairs) * (rounds + 1) * solve(trained * n)
    return seconds + _PAIR * n * test_samples


def _blocks(n: int, test_samples: int) -> int:
    """Numbers in the temporary blocks: those of one gram block, a panel of the inverse factor, the vectors."""
    return 8 * BLOCK_ROWS**2 + 3 * BLOCK_ROWS * n + 8 * (n + test_samples)
