"""Summaries over seeds, and paired comparisons of two learners on the same seeds. Pure numpy.

Nothing here is random: the bootstrap distribution of a median is computed exactly instead of being
sampled, and the paired test enumerates every sign pattern while that is possible and otherwise draws
from a fixed stream. Equal numbers in give equal numbers out, so an answer may carry a strong ETag.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEWEST_FOR_BOOTSTRAP = 5
"""Below it a bootstrap interval of a median is no wider than the extremes and would claim too much."""

FEWEST_TO_CONCLUDE = 6
"""The two-sided sign-flip test of m pairs cannot give p < 2^(1−m); six pairs are the first below 0.05."""

CONFIDENCE = 0.95
LARGEST_ENUMERATION = 14
"""Pairs up to which all 2^m sign patterns are enumerated."""

SIGN_DRAWS = 20_000

RESOLUTION = 1e-8
"""Relative errors below it are alike in a ratio: they say where an optimiser stopped and how its sums were rounded. Two
arms that have both solved the problem differ there by any factor."""

NO_VALUES = "no values"
SINGLE_SEED = "1 seed, no interval"
MIN_MAX = "min–max"
BOOTSTRAP = "95 % bootstrap of the median"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """What several seeds say about one number; ``None`` where they cannot say it."""

    median: float | None
    mean: float | None
    low: float | None
    high: float | None
    seeds: int
    method: str


@dataclass(frozen=True)
class PairedRatio:
    """numerator / denominator over the seeds that both have, with an interval and a test of ratio = 1."""

    median_ratio: float | None
    low: float | None
    high: float | None
    method: str
    pairs: int
    p_value: float | None


def summarise(values: Sequence[float]) -> Summary:
    """Median and mean with an interval whose method is named: none, min–max (2–4), bootstrap (≥ 5).

    Values that are not finite are left out; ``seeds`` counts those that remain.
    """
    finite = np.sort(np.asarray([value for value in values if math.isfinite(value)], dtype=np.float64))
    low, high, method = _interval(finite)
    if finite.size == 0:
        return Summary(None, None, low, high, 0, method)
    return Summary(float(np.median(finite)), float(np.mean(finite)), low, high, int(finite.size), method)


def paired_ratio(numerator: dict[int, float], denominator: dict[int, float]) -> PairedRatio:
    """Compare the errors of two learners seed by seed.

    Both arguments map a seed to an error. Seeds that only one side has, and pairs in which an error is not
    finite, are left out: they have no ratio. Errors below ``RESOLUTION`` count as ``RESOLUTION``. The p-value is
    that of the two-sided sign-flip test on the mean log ratio, None below two pairs.
    """
    pairs = [
        (max(numerator[seed], RESOLUTION), max(denominator[seed], RESOLUTION))
        for seed in sorted(numerator.keys() & denominator.keys())
        if math.isfinite(numerator[seed]) and math.isfinite(denominator[seed])
    ]
    logs = np.sort(
        np.asarray([math.log(above) - math.log(below) for above, below in pairs], dtype=np.float64)
    )
    low, high, method = _interval(logs)
    return PairedRatio(
        median_ratio=_exp(float(np.median(logs))) if pairs else None,
        low=_exp(low),
        high=_exp(high),
        method=method,
        pairs=len(pairs),
        p_value=sign_flip_p_value(logs) if len(pairs) > 1 else None,
    )


def sign_flip_p_value(differences: Floats) -> float:
    """Two-sided paired permutation test of mean difference zero.

    Under the null hypothesis the two sides of a pair may be exchanged, which flips the sign of its
    difference. Exact up to ``LARGEST_ENUMERATION`` pairs, beyond it (1 + hits) / (1 + draws) of a fixed
    stream.
    """
    signs, exact = _sign_patterns(differences.size)
    means = np.abs(signs @ differences)
    # The observed sum is one of the patterns; rounding must not lose it or its mirror image.
    observed = abs(float(np.sum(differences))) * (1 - 1e-12)
    hits = int(np.count_nonzero(means >= observed))
    return hits / means.size if exact else (hits + 1) / (means.size + 1)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction over one family of tests; ``None`` is no test and stays ``None``.

    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979) 65–70.
    """
    tested = sorted((p_value, index) for index, p_value in enumerate(p_values) if p_value is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p_value, index) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p_value))
        corrected[index] = largest
    return corrected


def bootstrap_interval_of_median(ordered: Floats, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Percentile interval of the bootstrap distribution of the median, computed without sampling.

    ``ordered`` holds n ascending values. A resample's median depends only on the ranks of its middle
    draws, whose distribution has a closed form, so the distribution over all n^n resamples is exact.
    """
    lower, upper, probability = _middle_ranks(ordered.size)
    medians = (ordered[lower] + ordered[upper]) / 2
    order = np.argsort(medians, kind="stable")
    cumulative = np.cumsum(probability[order])
    tail = (1 - confidence) / 2
    edges = np.searchsorted(cumulative, [tail, 1 - tail]).clip(max=medians.size - 1)
    low, high = medians[order][edges]
    return float(low), float(high)


def _interval(ordered: Floats) -> tuple[float | None, float | None, str]:
    if ordered.size == 0:
        return None, None, NO_VALUES
    if ordered.size == 1:
        return None, None, SINGLE_SEED
    if ordered.size < FEWEST_FOR_BOOTSTRAP:
        return float(ordered[0]), float(ordered[-1]), MIN_MAX
    low, high = bootstrap_interval_of_median(ordered)
    return low, high, BOOTSTRAP


@lru_cache(maxsize=64)
def _middle_ranks(size: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Ranks (i, j) of the two middle draws of a resample of ``size`` and the probability of each pair.

    With F(i) = (i + 1) / n: for odd n both are the middle draw, P(I ≤ i) = P(Bin(n, F(i)) ≥ (n + 1) / 2).
    For n = 2m: P(I ≤ i, J > j) = C(2m, m) F(i)^m (1 − F(j))^m for i ≤ j, because exactly m draws lie on
    either side; differences of it in both arguments are the probabilities.
    """
    half = size // 2
    reached = np.arange(1, size + 1) / size
    if size % 2:
        counts = np.arange(half + 1, size + 1)
        mass = _binomial_mass(size, counts, reached[:, None]).sum(axis=1)
        ranks = np.arange(size)
        return ranks, ranks, np.diff(mass, prepend=0.0)
    # log-space: C(1000, 500) alone would still fit, its products with tiny powers would not.
    log_choose = math.lgamma(size + 1) - 2 * math.lgamma(half + 1)
    with np.errstate(divide="ignore"):
        below = half * np.log(np.concatenate(([0.0], reached)))
        above = half * np.log(1 - np.concatenate(([0.0], reached)))
    left, right = np.diff(np.exp(below + log_choose / 2)), -np.diff(np.exp(above + log_choose / 2))
    lower, upper = np.triu_indices(size, k=1)
    pairs = left[lower] * right[upper]
    diagonal = np.arange(size)
    # I = J = i is what is left of P(I = i): all of P(I ≤ i) comes from the binomial, as above.
    mass = _binomial_mass(size, np.arange(half, size + 1), reached[:, None]).sum(axis=1)
    same = np.diff(mass, prepend=0.0) - np.bincount(lower, weights=pairs, minlength=size)
    return (
        np.concatenate((lower, diagonal)),
        np.concatenate((upper, diagonal)),
        np.clip(np.concatenate((pairs, same)), 0.0, None),
    )


def _binomial_mass(size: int, counts: NDArray[Any], chance: Floats) -> Floats:
    """P(Bin(size, chance) = counts), broadcast; exact at chance 1 where logarithms are not."""
    logs = np.array([math.lgamma(size + 1) - math.lgamma(k + 1) - math.lgamma(size - k + 1) for k in counts])
    inner = np.clip(chance, None, 1 - 1e-16)
    with np.errstate(under="ignore"):
        mass: Floats = np.exp(logs + counts * np.log(inner) + (size - counts) * np.log1p(-inner))
    return np.where(chance >= 1, (counts == size).astype(np.float64), mass)


@lru_cache(maxsize=64)
def _sign_patterns(size: int) -> tuple[Floats, bool]:
    if size <= LARGEST_ENUMERATION:
        numbers = np.arange(2**size)[:, None]
        flipped = (numbers >> np.arange(size)) & 1
    else:
        flipped = np.random.default_rng(size).integers(0, 2, size=(SIGN_DRAWS, size))
    return 1.0 - 2.0 * flipped.astype(np.float64), size <= LARGEST_ENUMERATION


def _exp(value: float | None) -> float | None:
    return None if value is None else math.exp(min(value, 700.0))
