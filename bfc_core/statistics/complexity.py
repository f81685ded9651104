"""Sample complexity from learning curves: n*(ε, δ), its intervals, and its growth with dim. Pure numpy.

n*(ε, δ) is the number of samples at which a share 1 − δ of the seeds has error ≤ ε: the place where the
(1 − δ)-quantile of the error over seeds meets ε, interpolated between grid points on log–log axes. Learning
curves are not always monotone, so two crossings are given: the first, and the last (from there on the curve
stays below). A curve that does not come below ε within the grid is *censored*: n* > n_max is its answer, never
a missing value. A diverged run has infinite error, as its seed did not succeed.

Intervals are 95 % percentile intervals of the bootstrap over seeds, drawn from a fixed stream: equal numbers
in give equal numbers out. A resample keeps a seed's whole curve together, because the samples of one seed are
nested in n.

What this is not: an estimate beyond the grid. Nothing is extrapolated.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 2000
LEAST_SIZES = 4
LEAST_SEEDS = 3
DECISIVE = 2.0
"""AIC differences below it decide nothing (Burnham & Anderson, Model Selection, 2002)."""

Floats = NDArray[np.float64]
Errors = Mapping[int, Mapping[int, float]]
"""n → seed → error; a diverged run has infinity."""

Censoring = Literal["above", "below"]


@dataclass(frozen=True)
class Crossing:
    """One crossing of ε. ``censored`` says on which side of the grid it lies where ``value`` is None.

    The interval [low, high] is open to the side where its end is None: below the smallest n, above the largest.
    """

    value: float | None
    censored: Censoring | None
    low: float | None
    high: float | None

    def in_words(self, smallest: int, largest: int) -> str:
        """The value, or on which side of the grid it lies."""
        if self.censored == "above":
            return f"> {largest}"
        return f"≤ {smallest}" if self.value is None else f"{self.value:.4g}"


@dataclass(frozen=True)
class SampleComplexity:
    """n*(ε, δ) of one curve, with what the estimate rests on."""

    first: Crossing
    last: Crossing
    is_monotone: bool
    smallest_n: int
    largest_n: int
    seeds: int
    """The fewest at the sizes between which the curve first crosses, or at the end beyond which it does."""
    draws: Floats = field(repr=False)
    """First crossings of the bootstrap resamples; 0 below the grid and infinity above it."""


@dataclass(frozen=True)
class Line:
    """log n* = intercept + slope · u, with the residual sum of squares over ``sizes`` points."""

    intercept: float
    slope: float
    residual: float
    sizes: int


@dataclass(frozen=True)
class Growth:
    """How n* grows with dim. ``exponent`` is None where ``said`` tells why there is none.

    ``low`` and ``high`` enclose the bootstrap interval over seeds and the t-interval of the line's own residuals.
    ``aic_difference`` is AIC(exponential) − AIC(polynomial): positive where the power law fits better.
    """

    exponent: float | None
    low: float | None
    high: float | None
    rate: float | None
    aic_difference: float | None
    preferred: Literal["polynomial", "exponential", "undecided"] | None
    sizes: int
    said: str


def sample_complexity(errors: Errors, eps: float, delta: float) -> SampleComplexity:
    """n*(ε, δ) of one learner at one dim.

    Raises:
        ValueError: there is no n, an n without any seed, or ε and δ are out of range.
    """
    if eps <= 0 or not 0 < delta < 1:
        raise ValueError("eps must be positive and delta between 0 and 1")
    ns = sorted(errors)
    if not ns or any(not errors[n] for n in ns):
        raise ValueError("every n of a learning curve needs at least one seed")
    seeds = sorted({seed for of_n in errors.values() for seed in of_n})
    table = np.array([[errors[n].get(seed, np.nan) for seed in seeds] for n in ns])
    quantiles = _upper_quantiles(table, delta)
    draws = _resampled(table, delta)
    first, last = _first_crossings(ns, draws, eps), _last_crossings(ns, draws, eps)
    found = quantiles[None]
    counts = np.sum(~np.isnan(table), axis=1)
    least = _seeds_at_the_crossing(counts, quantiles <= eps)
    # Of a size with the first few seeds only, the quantile is another one.
    comparable = quantiles[counts >= least]
    return SampleComplexity(
        first=_crossing(ns, float(_first_crossings(ns, found, eps)[0]), first, len(seeds)),
        last=_crossing(ns, float(_last_crossings(ns, found, eps)[0]), last, len(seeds)),
        is_monotone=bool(np.all(comparable[1:] <= comparable[:-1])),
        smallest_n=ns[0],
        largest_n=ns[-1],
        seeds=least,
        draws=first,
    )


def seeds_that_meet(seeds: int, delta: float) -> int:
    """How many of so many seeds must have error ≤ ε for their share to be 1 − δ."""
    # 1e-9: (1 − 0.8) · 5 is 0.9999… in floating point and must count as 1.
    return max(1, math.ceil((1 - delta) * seeds - 1e-9))


def meets(errors: Mapping[int, float], eps: float, delta: float) -> bool:
    """Whether a share ≥ 1 − δ of the seeds of one size has error ≤ ε; ``errors`` is seed → error."""
    return bool(_upper_quantiles(np.array([*errors.values()]), delta) <= eps)


def growth(by_dim: Mapping[int, SampleComplexity]) -> Growth:
    """Fit n* ∝ dim^b and n* ∝ exp(c·dim) to the first crossings, and say which fits better.

    Censored sizes carry no number and are left out, which ``said`` names: where the largest are censored, the
    true growth is steeper than the fit.
    """
    usable = {dim: found for dim, found in sorted(by_dim.items()) if found.first.value is not None}
    left_out = _left_out(by_dim)
    fewest = min((found.seeds for found in usable.values()), default=0)
    if len(usable) < LEAST_SIZES or fewest < LEAST_SEEDS:
        need = (
            f"an exponent needs at least {LEAST_SIZES} sizes with a crossing and {LEAST_SEEDS} seeds at each"
        )
        have = f"there are {len(usable)} sizes" + (f" and {fewest} seeds" if usable else "")
        return Growth(None, None, None, None, None, None, len(usable), f"{need}; {have}{left_out}")
    dims = np.array(list(usable), dtype=np.float64)
    stars = np.array([found.first.value for found in usable.values()], dtype=np.float64)
    power, exponential = fitted_line(np.log(dims), stars), fitted_line(dims, stars)
    low, high = _slope_interval(dims, power, [found.draws for found in usable.values()])
    difference = aic_difference(power, exponential)
    preferred: Literal["polynomial", "exponential", "undecided"] = "undecided"
    if abs(difference) >= DECISIVE:
        preferred = "polynomial" if difference > 0 else "exponential"
    said = f"{len(usable)} sizes, at least {fewest} seeds each{left_out}"
    return Growth(power.slope, low, high, exponential.slope, difference, preferred, len(usable), said)


def fitted_line(u: Floats, stars: Floats) -> Line:
    """Least squares of log n* on u."""
    y = np.log(stars)
    centred = u - u.mean()
    slope = float(centred @ y / (centred @ centred))
    intercept = float(y.mean() - slope * u.mean())
    residual = float(np.sum((y - intercept - slope * u) ** 2))
    return Line(intercept, slope, residual, len(u))


def aic_difference(polynomial: Line, exponential: Line) -> float:
    """AIC(exponential) − AIC(polynomial) of two lines with equally many parameters: m log(RSS_e / RSS_p)."""
    floor = 1e-12 * polynomial.sizes  # an exact fit has no logarithm; rounding is not evidence either
    ratio = (exponential.residual + floor) / (polynomial.residual + floor)
    return polynomial.sizes * math.log(ratio)


def _seeds_at_the_crossing(counts: NDArray[np.int_], is_met: NDArray[np.bool_]) -> int:
    """The fewest seeds at the two sizes between which ε is first met; both arrays by size, ascending."""
    above = int(is_met.argmax()) if is_met.any() else len(is_met)
    return int(counts[max(above - 1, 0) : above + 1].min())


def _upper_quantiles(table: Floats, delta: float) -> Floats:
    """The smallest error that a share ≥ 1 − δ of the seeds does not exceed, by row; NaN is no seed."""
    ordered = np.sort(table, axis=-1)
    seeds = np.sum(~np.isnan(table), axis=-1)
    # 1e-9: (1 − 0.8) · 5 is 0.9999… in floating point and must count as 1.
    rank = np.clip(np.ceil((1 - delta) * seeds - 1e-9).astype(int), 1, None) - 1
    quantiles: Floats = np.take_along_axis(ordered, rank[..., None], axis=-1)[..., 0]
    return np.where(seeds > 0, quantiles, np.inf)


def _resampled(table: Floats, delta: float) -> Floats:
    """Quantile curves of the bootstrap resamples of seeds, shape (RESAMPLES, ns)."""
    seeds = table.shape[1]
    stream = np.random.default_rng(seeds)
    chosen = stream.integers(0, seeds, size=(RESAMPLES, seeds))
    return _upper_quantiles(np.moveaxis(table[:, chosen], 1, 0), delta)


def _first_crossings(ns: Sequence[int], curves: Floats, eps: float) -> Floats:
    """Where each curve (a row) first comes to ε; 0 where it starts below, infinity where it never comes."""
    below = curves <= eps
    return np.where(below.any(axis=1), _between(ns, curves, below.argmax(axis=1), eps), np.inf)


def _last_crossings(ns: Sequence[int], curves: Floats, eps: float) -> Floats:
    """From where on each curve stays at or below ε; infinity where its last point is above."""
    above = curves > eps
    index = np.where(above.any(axis=1), len(ns) - above[:, ::-1].argmax(axis=1), 0)
    return np.where(above[:, -1], np.inf, _between(ns, curves, np.minimum(index, len(ns) - 1), eps))


def _between(ns: Sequence[int], curves: Floats, index: NDArray[np.intp], eps: float) -> Floats:
    """The crossing between grid points index − 1 (above ε) and index (at or below), on log–log axes; 0 at 0."""
    grid, rows = np.asarray(ns, dtype=np.float64), np.arange(len(curves))
    before = np.maximum(index - 1, 0)
    above, below = curves[rows, before], curves[rows, index]
    # From an infinite error, and down to zero, there is nothing to interpolate: the grid point itself.
    can = np.isfinite(above) & (above > eps) & (below > 0) & (below <= eps)
    safe_above, safe_below = np.where(can, above, np.e * eps), np.where(can, below, eps)
    share = np.where(can, np.log(safe_above / eps) / np.log(safe_above / safe_below), 1.0)
    stars: Floats = grid[before] * (grid[index] / grid[before]) ** share
    return np.where(index == 0, 0.0, stars)


def _crossing(ns: Sequence[int], value: float, draws: Floats, seeds: int) -> Crossing:
    """Percentile interval of the draws; a single seed has none."""
    low = high = None
    if seeds > 1:
        tail = (1 - CONFIDENCE) / 2
        ends = np.quantile(draws, [tail, 1 - tail], method="inverted_cdf")
        low = None if ends[0] == 0 else float(min(ends[0], ns[-1]))
        high = None if math.isinf(ends[1]) else float(max(ends[1], ns[0]))
    if value == 0:
        return Crossing(None, "below", low, high)
    if math.isinf(value):
        return Crossing(None, "above", low, high)
    return Crossing(value, None, low, high)


def _slope_interval(dims: Floats, power: Line, draws: Sequence[Floats]) -> tuple[float, float]:
    """Hull of the bootstrap interval over seeds and the t-interval of the line's residuals."""
    from scipy.special import stdtrit  # noqa: PLC0415 - docs/decisions/0057

    u = np.log(dims)
    centred = u - u.mean()
    spread = math.sqrt(power.residual / (power.sizes - 2) / float(centred @ centred))
    margin = float(stdtrit(power.sizes - 2, (1 + CONFIDENCE) / 2)) * spread
    low, high = power.slope - margin, power.slope + margin
    # The sizes have different targets and data: their seeds are resampled apart.
    stream = np.random.default_rng(len(dims))
    stars = np.stack([stream.permutation(of_size) for of_size in draws], axis=1)
    bracketed = np.all((stars > 0) & np.isfinite(stars), axis=1)
    if bracketed.any():
        slopes = np.log(stars[bracketed]) @ centred / float(centred @ centred)
        tail = (1 - CONFIDENCE) / 2
        ends = np.quantile(slopes, [tail, 1 - tail])
        low, high = min(low, float(ends[0])), max(high, float(ends[1]))
    return low, high


def _left_out(by_dim: Mapping[int, SampleComplexity]) -> str:
    above = [dim for dim, found in sorted(by_dim.items()) if found.first.censored == "above"]
    below = [dim for dim, found in sorted(by_dim.items()) if found.first.censored == "below"]
    words = ""
    if above:
        words += f"; censored above the grid at dim {', '.join(map(str, above))}: the growth is at least this steep"
    if below:
        words += f"; already below eps at the smallest n at dim {', '.join(map(str, below))}"
    return words
