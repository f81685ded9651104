"""n*(ε, δ), its intervals and its growth on synthetic curves whose answers are known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bfc_core.statistics.complexity import Errors, SampleComplexity, growth, sample_complexity

NS = [2**k for k in range(6, 14)]


def power_curve(
    star: float, eps: float = 0.1, seeds: int = 8, spread: float = 0.0, stream: int = 0
) -> Errors:
    """Error eps · star / n, so that n* at eps is star; seeds differ by a lognormal factor."""
    factors = np.exp(spread * np.random.default_rng(stream).standard_normal(seeds))
    return {n: {seed: eps * star / n * float(factors[seed]) for seed in range(seeds)} for n in NS}


@pytest.mark.parametrize("star", [100.0, 999.0, 5000.0])
def test_a_power_law_is_interpolated_exactly(star: float) -> None:
    found = sample_complexity(power_curve(star), 0.1, 0.2)
    assert found.first.value == pytest.approx(star)
    assert found.last.value == pytest.approx(star)
    assert found.first.low == pytest.approx(star)
    assert found.is_monotone


def test_delta_is_a_quantile_over_seeds() -> None:
    errors = {n: {seed: 0.1 * (100 * (seed + 1)) / n for seed in range(5)} for n in NS}
    stars = {delta: sample_complexity(errors, 0.1, delta).first.value for delta in (0.2, 0.4, 0.8)}
    # 80 % of five seeds are four, of which the worst has n* = 400.
    assert stars == {0.2: pytest.approx(400), 0.4: pytest.approx(300), 0.8: pytest.approx(100)}


def test_what_never_comes_below_is_above_the_grid_and_not_missing() -> None:
    found = sample_complexity(power_curve(10**6), 0.1, 0.2)
    assert (found.first.value, found.first.censored) == (None, "above")
    assert (found.first.low, found.first.high) == (NS[-1], None)
    assert found.first.in_words(NS[0], NS[-1]) == "> 8192"


def test_what_starts_below_is_below_the_grid() -> None:
    found = sample_complexity(power_curve(3), 0.1, 0.2)
    assert (found.first.value, found.first.censored) == (None, "below")
    assert found.first.in_words(NS[0], NS[-1]) == "≤ 64"


def test_a_curve_with_a_peak_has_two_crossings() -> None:
    level = dict(zip(NS, [1.0, 0.05, 0.05, 1.0, 1.0, 0.01, 0.01, 0.01], strict=True))
    found = sample_complexity({n: {0: value} for n, value in level.items()}, 0.1, 0.5)
    assert not found.is_monotone
    assert found.first.value is not None
    assert found.last.value is not None
    assert NS[0] < found.first.value < NS[1]
    assert NS[4] < found.last.value < NS[5]


def test_a_rise_at_the_end_leaves_the_last_crossing_censored() -> None:
    level = dict(zip(NS, [1.0, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 1.0], strict=True))
    found = sample_complexity({n: {0: value} for n, value in level.items()}, 0.1, 0.5)
    assert found.first.censored is None
    assert found.last.censored == "above"


def test_a_diverged_seed_is_an_infinite_error() -> None:
    errors = {n: dict(of_n) for n, of_n in power_curve(500, seeds=4).items()}
    for of_n in errors.values():
        of_n[3] = math.inf
    assert sample_complexity(errors, 0.1, 0.25).first.value == pytest.approx(500)
    assert sample_complexity(errors, 0.1, 0.2).first.censored == "above"


def test_the_interval_covers_the_true_median_about_as_often_as_it_says() -> None:
    hits = 0
    for stream in range(60):
        found = sample_complexity(power_curve(700, seeds=15, spread=0.4, stream=stream), 0.1, 0.5)
        assert found.first.low is not None
        assert found.first.high is not None
        hits += found.first.low <= 700 <= found.first.high
    # 95 % of 60 are 57; five standard deviations of a binomial below it.
    assert hits >= 48


@pytest.mark.parametrize(("eps", "delta"), [(0.0, 0.1), (0.1, 0.0), (0.1, 1.0)])
def test_eps_and_delta_out_of_range_are_refused(eps: float, delta: float) -> None:
    with pytest.raises(ValueError, match="eps"):
        sample_complexity(power_curve(100), eps, delta)


def found_at(star: float, *, seeds: int = 6, spread: float = 0.15, stream: int = 0) -> SampleComplexity:
    return sample_complexity(power_curve(star, seeds=seeds, spread=spread, stream=stream), 0.1, 0.5)


def test_a_power_of_dim_is_recognised_with_its_exponent() -> None:
    by_dim = {dim: found_at(2 * dim**2.0, stream=dim) for dim in (8, 12, 18, 27, 40)}
    fit = growth(by_dim)
    assert fit.exponent == pytest.approx(2, abs=0.3)
    assert fit.low is not None
    assert fit.high is not None
    assert fit.low < 2 < fit.high
    assert fit.high - fit.low < 1.5
    assert fit.preferred == "polynomial"


def test_exponential_growth_is_told_from_a_power() -> None:
    by_dim = {dim: found_at(60 * math.exp(0.3 * dim), spread=0.02) for dim in (4, 7, 10, 13, 16)}
    fit = growth(by_dim)
    assert fit.preferred == "exponential"
    assert fit.rate == pytest.approx(0.3, abs=0.02)


def test_too_few_sizes_or_seeds_are_said_and_not_fitted() -> None:
    few = growth({dim: found_at(dim**2.0) for dim in (10, 20, 30)})
    assert few.exponent is None
    assert "there are 3 sizes" in few.said
    lonely = growth({dim: found_at(dim**2.0, seeds=2) for dim in (10, 15, 20, 30)})
    assert lonely.exponent is None
    assert "2 seeds" in lonely.said


def test_censored_sizes_are_left_out_and_named() -> None:
    stars = {dim: dim**2.0 for dim in (10, 14, 20, 28)} | {200: 10.0**6}
    fit = growth({dim: found_at(star, spread=0.0) for dim, star in stars.items()})
    assert fit.sizes == 4
    assert fit.exponent == pytest.approx(2)
    assert "dim 200: the growth is at least this steep" in fit.said


@given(st.lists(st.one_of(st.floats(1e-6, 10), st.just(math.inf)), min_size=2, max_size=len(NS)))
def test_the_crossings_are_those_of_a_walk_along_the_curve(values: list[float]) -> None:
    ns, eps = NS[: len(values)], 0.1
    found = sample_complexity({n: {0: value} for n, value in zip(ns, values, strict=True)}, eps, 0.5)

    def crossing(index: int) -> float | None:
        if index in (0, len(values)):
            return None
        above, below = values[index - 1], values[index]
        if math.isinf(above):
            return float(ns[index])
        share = math.log(above / eps) / math.log(above / below)
        return math.exp(math.log(ns[index - 1]) + share * math.log(ns[index] / ns[index - 1]))

    first = next((place for place, value in enumerate(values) if value <= eps), len(values))
    last = 1 + max((place for place, value in enumerate(values) if value > eps), default=-1)
    for index, side in ((first, found.first), (last, found.last)):
        expected = crossing(index)
        assert side.value == (None if expected is None else pytest.approx(expected))
        assert side.censored == {0: "below", len(values): "above"}.get(index)
