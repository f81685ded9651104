"""Bisection for n*: on curves of known answer, with how many sizes, and when it stops."""

import math

import numpy as np
import pytest
from pydantic import ValidationError

from bfc_core.specs import ComplexitySpec
from bfc_core.specs.faults import faults_of
from bfc_core.statistics.bracketing import Aim, interval_doublings, next_ask
from bfc_core.statistics.complexity import sample_complexity

GRID = tuple(32 * 2**k for k in range(13))


def power_law(star: float, spread: float = 0.0, rate: float = 2.0):
    """Errors fall as n^−rate and meet 0.1 at ``star``; seeds differ by a factor."""

    def error(n: int, seed: int) -> float:
        factor = math.exp(spread * np.random.default_rng(seed).standard_normal())
        return 0.1 * (star * factor / n) ** rate

    return error


def searched(error, aim: Aim):
    errors: dict[int, dict[int, float]] = {}
    asked = []
    while (ask := next_ask(errors, aim)) is not None:
        asked.append(ask)
        assert len(asked) < 50
        for n in ask.sizes:
            for seed in range(ask.seeds):
                errors.setdefault(n, {})[seed] = error(n, seed)
    return errors, asked


def aim(**changes):
    return Aim(**({"grid": GRID, "eps": 0.1, "delta": 0.2, "seeds": 5, "most_seeds": 5} | changes))


@pytest.mark.parametrize("star", [40.0, 700.0, 5000.0, 60_000.0])
def test_the_bracket_gives_the_answer_of_the_full_grid_with_a_quarter_of_its_runs(star) -> None:
    error = power_law(star, spread=0.1)
    errors, _ = searched(error, aim())
    full = {n: {seed: error(n, seed) for seed in range(5)} for n in GRID}
    found, expected = (sample_complexity(of, 0.1, 0.2).first for of in (errors, full))
    assert found.value == pytest.approx(expected.value)
    assert expected.low <= found.value <= expected.high
    assert sum(map(len, errors.values())) <= sum(map(len, full.values())) / 4


@pytest.mark.parametrize("spread", [0.05, 0.2, 0.5, 1.0])
@pytest.mark.parametrize(("seeds", "delta"), [(3, 0.2), (5, 0.2), (5, 0.5), (8, 0.1), (20, 0.2), (20, 0.5)])
def test_sizes_of_which_a_few_seeds_were_run_change_no_answer(spread, seeds, delta) -> None:
    """Their other seeds move neither n* nor its interval, and the full grid has the same n*."""
    fewer = 0
    for star in (45.0, 300.0, 1500.0, 9000.0):
        error, wanted = power_law(star, spread=spread), aim(seeds=seeds, most_seeds=seeds, delta=delta)
        errors, _ = searched(error, wanted)
        assert {*map(len, errors.values())} <= {seeds - math.ceil((1 - delta) * seeds - 1e-9) + 1, seeds}
        fewer += sum(len(of_n) < seeds for of_n in errors.values())
        found = sample_complexity(errors, 0.1, delta)
        filled, full = (
            sample_complexity({n: {seed: error(n, seed) for seed in range(seeds)} for n in sizes}, 0.1, delta)
            for sizes in (errors, GRID)
        )
        assert found.first == filled.first
        assert found.first.value == full.first.value
        assert found.seeds == seeds
        assert found.is_monotone
    # Where seeds differ by as much as sizes do, an interval may reach all of them.
    assert fewer > 0 or spread == 1.0


@pytest.mark.parametrize("lucky", [(0, 1), (2, 3, 4)])
def test_a_few_seeds_that_agree_are_not_believed_at_the_bracket(lucky) -> None:
    """The first two need a hundredth of the samples of the others, or a hundred times as many."""

    def error(n: int, seed: int) -> float:
        return power_law(50.0 if seed in lucky else 5000.0)(n, seed)

    errors, _ = searched(error, aim())
    full = {n: {seed: error(n, seed) for seed in range(5)} for n in GRID}
    assert sample_complexity(errors, 0.1, 0.2).first.value == sample_complexity(full, 0.1, 0.2).first.value


@pytest.mark.parametrize(("star", "side", "size"), [(1e9, "above", GRID[-1]), (1.0, "below", GRID[0])])
def test_beyond_the_grid_the_answer_is_censored_and_its_end_was_run(star, side, size) -> None:
    errors, asked = searched(power_law(star), aim())
    assert sample_complexity(errors, 0.1, 0.2).first.censored == side
    assert len(errors[size]) == 5
    assert len(asked) <= 5


def test_seeds_are_added_at_the_bracket_until_the_interval_is_narrow() -> None:
    error = power_law(700.0, spread=0.6)
    wide = aim(most_seeds=400, widest_interval=0.7)
    errors, asked = searched(error, wide)
    assert interval_doublings(errors, wide) <= 0.7
    assert asked[0].seeds == 2
    assert 5 < asked[-1].seeds < 400
    few, _ = searched(error, aim())
    assert interval_doublings(few, wide) > 0.7


def test_an_open_end_is_closed_by_the_next_size_before_seeds_are_spent() -> None:
    error = power_law(700.0, spread=0.6)
    bracketed, _ = searched(error, aim())
    assert math.isinf(interval_doublings(bracketed, aim()))
    closed, asked = searched(error, aim(most_seeds=6, widest_interval=9.0))
    assert not math.isinf(interval_doublings(closed, aim()))
    assert {ask.seeds for ask in asked} == {2, 5}


@pytest.mark.parametrize(("delta", "least"), [(0.2, 5), (0.1, 10), (0.05, 20)])
@pytest.mark.parametrize("seeds", [1, 3])
def test_an_interval_of_fewer_seeds_than_see_delta_is_not_believed(delta, least, seeds) -> None:
    """One seed's bootstrap has no width at all; with δ = 0.05 the quantile of up to 20 seeds is their maximum."""
    error = power_law(700.0, spread=0.1)
    errors, _ = searched(error, aim(delta=delta, seeds=seeds, most_seeds=100, widest_interval=9.0))
    assert least <= max(map(len, errors.values())) <= 2 * least
    errors, _ = searched(error, aim(delta=delta, seeds=seeds, most_seeds=3, widest_interval=9.0))
    assert max(map(len, errors.values())) == 3


@pytest.mark.parametrize("star", [1e9, 1.0])
def test_seeds_are_not_spent_on_an_answer_beyond_the_grid(star) -> None:
    errors, _ = searched(power_law(star), aim(most_seeds=100, widest_interval=0.5))
    assert max(map(len, errors.values())) == 5


def test_seeds_are_spent_where_it_is_open_whether_the_answer_is_beyond_the_grid() -> None:
    """Half of the seeds meet ε at the largest size."""
    error = power_law(GRID[-1], spread=1.0)
    errors, _ = searched(error, aim(delta=0.5, most_seeds=40, widest_interval=0.01))
    assert len(errors[GRID[-1]]) == 40


def test_it_ends_at_the_most_seeds_however_wide_the_interval_is() -> None:
    errors, asked = searched(power_law(700.0, spread=1.5), aim(most_seeds=8, widest_interval=0.01))
    assert max(ask.seeds for ask in asked) == 8
    assert max(map(len, errors.values())) == 8


def test_a_diverged_seed_misses_every_error() -> None:
    def error(n: int, seed: int) -> float:
        return math.inf if seed == 0 and n > 1000 else power_law(100.0)(n, seed)

    strict, _ = searched(error, aim(delta=0.01))
    lenient, _ = searched(error, aim(delta=0.2))
    assert sample_complexity(lenient, 0.1, 0.2).first.value == pytest.approx(100.0)
    assert max(strict) > 1000


SPEC = {
    "name": "n*",
    "target": {"kind": "hierarchical_quadratic"},
    "learners": [{"kind": "joint"}],
    "dim": [6, 8],
    "n_min": 64,
    "n_max": 1000,
}


def test_the_grid_is_geometric_and_ends_at_the_largest_n() -> None:
    assert ComplexitySpec.model_validate(SPEC).grid() == (64, 128, 256, 512, 1000)
    fine = ComplexitySpec.model_validate(SPEC | {"points_per_doubling": 2, "n_max": 256}).grid()
    assert fine == (64, 91, 128, 181, 256)
    dense = ComplexitySpec.model_validate(SPEC | {"n_min": 8, "n_max": 20, "points_per_doubling": 8}).grid()
    assert dense == tuple(sorted(set(dense)))


@pytest.mark.parametrize(
    "changes",
    [
        {"n_max": 64},
        {"seeds": 5, "max_seeds": 4},
        {"widest_interval": 1.0},
        {"dim": 2},
        {"eps": float("nan")},
        {"learners": [{"kind": "joint"}, {"kind": "joint"}]},
    ],
)
def test_what_cannot_be_searched_is_refused(changes) -> None:
    with pytest.raises(ValidationError):
        ComplexitySpec.model_validate(SPEC | changes)


@pytest.mark.parametrize(
    ("changes", "pointers"),
    [
        ({"n_min": 1000}, ["#/n_max"]),
        ({"n_min": 5000, "n_max": 4096}, ["#/n_max"]),
        ({"seeds": 9, "max_seeds": 8}, ["#/max_seeds"]),
        ({"seeds": 9, "max_seeds": 8, "widest_interval": 1.0}, ["#/max_seeds"]),
        ({"widest_interval": 1.0}, ["#/widest_interval"]),
        ({"widest_interval": 1.0, "max_seeds": 5}, ["#/widest_interval"]),
        ({"n_min": 0, "n_max": 0}, ["#/n_min", "#/n_max"]),
    ],
)
def test_what_does_not_fit_together_is_pointed_at(changes, pointers) -> None:
    document = SPEC | changes
    with pytest.raises(ValidationError) as refusal:
        ComplexitySpec.model_validate(document)
    assert [fault.pointer for fault in faults_of(refusal.value, document)] == pointers


def test_the_largest_n_by_default_is_checked_as_well() -> None:
    document = {name: value for name, value in SPEC.items() if name != "n_max"} | {"n_min": 5000}
    with pytest.raises(ValidationError, match="n_min must be smaller than n_max"):
        ComplexitySpec.model_validate(document)
