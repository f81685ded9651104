"""The closed forms against sampling and against scipy."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bfc_core.statistics.comparison import (
    BOOTSTRAP,
    MIN_MAX,
    NO_VALUES,
    SINGLE_SEED,
    _middle_ranks,
    bootstrap_interval_of_median,
    holm,
    paired_ratio,
    sign_flip_p_value,
    summarise,
)


@pytest.mark.parametrize("size", [5, 6])
def test_the_bootstrap_distribution_is_that_of_all_resamples(size):
    ordered = np.sort(np.random.default_rng(3).lognormal(size=size))
    every = np.array([np.median(draw) for draw in itertools.product(ordered, repeat=size)])
    lower, upper, probability = _middle_ranks(size)
    exact = (ordered[lower] + ordered[upper]) / 2
    assert probability.sum() == pytest.approx(1)
    for value in np.unique(every):
        share = probability[np.isclose(exact, value)].sum()
        assert share == pytest.approx(np.isclose(every, value).mean(), abs=1e-12)


@pytest.mark.parametrize("size", [7, 12, 40, 101, 1000])
def test_the_interval_agrees_with_sampled_bootstrap(size):
    values = np.sort(np.random.default_rng(size).normal(size=size))
    sampled = stats.bootstrap(
        (values,), np.median, method="percentile", n_resamples=4000, rng=np.random.default_rng(1), batch=500
    ).confidence_interval
    low, high = bootstrap_interval_of_median(values)
    spread = values[-1] - values[0]
    assert low == pytest.approx(sampled.low, abs=0.05 * spread)
    assert high == pytest.approx(sampled.high, abs=0.05 * spread)


def test_summaries_name_their_method():
    assert summarise([]).method == NO_VALUES
    one = summarise([2.0])
    assert (one.median, one.low, one.high, one.method) == (2.0, None, None, SINGLE_SEED)
    few = summarise([3.0, 1.0, 2.0])
    assert (few.median, few.low, few.high, few.method, few.seeds) == (2.0, 1.0, 3.0, MIN_MAX, 3)
    many = summarise([float(k) for k in range(20)])
    assert many.method == BOOTSTRAP
    assert many.low is not None
    assert 0 < many.low < many.median < many.high < 19


def test_values_that_are_not_finite_are_left_out():
    summary = summarise([1.0, math.nan, math.inf, 3.0])
    assert (summary.seeds, summary.mean) == (2, 2.0)


@pytest.mark.parametrize("size", [2, 5, 9])
def test_the_sign_flip_test_agrees_with_scipy(size):
    differences = np.random.default_rng(size).normal(0.7, 1, size=size)
    reference = stats.permutation_test(
        (differences, np.zeros(size)),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert sign_flip_p_value(differences) == pytest.approx(reference.pvalue)


def test_the_sampled_sign_flip_test_sees_a_clear_difference_and_no_other():
    stream = np.random.default_rng(0)
    assert sign_flip_p_value(stream.normal(1.0, 0.5, size=30)) < 0.001
    assert sign_flip_p_value(np.tile([1.0, -1.0], 15)) > 0.5


def test_ratios_are_paired_by_seed():
    ratio = paired_ratio({0: 10.0, 1: 200.0, 2: 3.0}, {1: 20.0, 0: 1.0, 7: 5.0})
    assert ratio.pairs == 2
    assert ratio.median_ratio == pytest.approx(10.0)
    assert ratio.p_value == 0.5


def test_pairs_without_a_ratio_are_left_out():
    ratio = paired_ratio({0: math.inf, 1: math.nan, 2: 4.0}, {0: 1.0, 1: 1.0, 2: 2.0})
    assert (ratio.pairs, ratio.median_ratio, ratio.p_value) == (1, 2.0, None)
    assert paired_ratio({}, {}).median_ratio is None


def test_two_arms_that_have_solved_the_problem_are_alike():
    ratio = paired_ratio({0: 1e-14, 1: 3e-12, 2: 0.0}, {0: 2e-10, 1: 1e-15, 2: 1e-9})
    assert (ratio.pairs, ratio.median_ratio, ratio.p_value) == (3, 1.0, 1.0)
    assert paired_ratio({0: 1e-3}, {0: 1e-14}).median_ratio == pytest.approx(1e5)


def test_holm_steps_down():
    assert holm([0.01, 0.04, None, 0.03]) == [
        pytest.approx(0.03),
        pytest.approx(0.06),
        None,
        pytest.approx(0.06),
    ]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values):
    corrected = holm(p_values)
    assert all(after >= before for before, after in zip(p_values, corrected, strict=True))
    assert [corrected[k] for k in np.argsort(p_values, kind="stable")] == sorted(corrected)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=25))
def test_an_interval_holds_its_median(values):
    summary = summarise(values)
    if summary.low is not None:
        assert min(values) <= summary.low <= summary.median <= summary.high <= max(values)
