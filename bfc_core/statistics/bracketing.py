"""Which size to run next: bisection for n*(ε, δ) on a grid of n, then seeds until the interval is narrow. Pure.

A full grid runs every size; bisection asks for about log₂ of them. It supposes that the error falls with n: where a
curve is not monotone it finds one of its crossings, and the answer's first and last crossing are over the sizes that
were run. Not an optimiser of cost: a size twice as large may cost eight times as much, and the middle is asked first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bfc_core.statistics.complexity import (
    CONFIDENCE,
    Errors,
    SampleComplexity,
    meets,
    sample_complexity,
)


@dataclass(frozen=True)
class Ask:
    """Sizes to be run with seeds 0 … ``seeds`` − 1; what is known of them is not run again."""

    sizes: tuple[int, ...]
    seeds: int


@dataclass(frozen=True)
class Aim:
    """What is to be found: n* on ``grid``, its interval no wider than ``widest_interval`` doublings."""

    grid: Sequence[int]
    eps: float
    delta: float
    seeds: int
    most_seeds: int
    widest_interval: float | None = None


def next_ask(errors: Errors, aim: Aim) -> Ask | None:
    """What to run next for one learner and dim, or None where nothing more would help.

    Args:
        errors: n → seed → error of what has been run, infinite where it diverged.
        aim: what is to be found.
    """
    below, above = bracket(errors, aim)
    seeds = max([aim.seeds, *(len(of_n) for of_n in errors.values())])
    if above - below > 1:
        return Ask((aim.grid[(below + above) // 2],), seeds)
    ends = tuple(aim.grid[index] for index in (below, above) if 0 <= index < len(aim.grid))
    fewest = min(len(errors[n]) for n in ends)
    if fewest < seeds:
        return Ask(ends, seeds)
    if aim.widest_interval is None:
        return None
    beyond = _beyond_an_open_end(errors, aim, below, above)
    if beyond is not None:
        return Ask((beyond,), seeds)
    enough = min(aim.most_seeds, seeds_to_see(aim.delta))
    if seeds >= aim.most_seeds or (seeds >= enough and is_settled(errors, aim)):
        return None
    return Ask(ends, min(aim.most_seeds, max(2 * seeds, enough)))


def bracket(errors: Errors, aim: Aim) -> tuple[int, int]:
    """Indices of the largest size known to miss ε and of the smallest known to meet it; −1, len(grid) for none."""
    met = {index: meets(errors[n], aim.eps, aim.delta) for index, n in enumerate(aim.grid) if errors.get(n)}
    above = min((index for index, is_met in met.items() if is_met), default=len(aim.grid))
    below = max((index for index, is_met in met.items() if not is_met and index < above), default=-1)
    return below, above


def seeds_to_see(delta: float) -> int:
    """Seeds with fewer of which the share 1 − δ is all of them, so that their bootstrap says too little."""
    return math.ceil(1 / delta - 1e-9)


def is_settled(errors: Errors, aim: Aim) -> bool:
    """Whether more seeds would change nothing: the interval is as narrow as asked, or all of it is beyond the grid.

    It is beyond where ε is missed at the largest size, or met at the smallest, in 95 % of the resamples.
    """
    assert aim.widest_interval is not None
    found = _estimate(errors, aim)
    end = aim.grid[-1] if found.first.censored == "above" else aim.grid[0]
    if found.first.censored is not None and errors.get(end):
        beyond = math.inf if found.first.censored == "above" else 0.0
        return float((found.draws == beyond).mean()) >= CONFIDENCE
    return interval_doublings(errors, aim) <= aim.widest_interval


def interval_doublings(errors: Errors, aim: Aim) -> float:
    """How many doublings of n the 95 % interval of the first crossing spans; infinite where an end is open."""
    found = _estimate(errors, aim).first
    if found.low is None or found.high is None:
        return math.inf
    return math.log2(found.high / found.low)


def _beyond_an_open_end(errors: Errors, aim: Aim, below: int, above: int) -> int | None:
    """The next size outwards where the interval is open only because nothing was run there."""
    found = _estimate(errors, aim).first
    if found.high is None:
        further = [n for n in aim.grid[above + 1 :] if n not in errors]
        if further:
            return further[0]
    if found.low is None:
        further = [n for n in aim.grid[: max(below, 0)] if n not in errors]
        if further:
            return further[-1]
    return None


def _estimate(errors: Errors, aim: Aim) -> SampleComplexity:
    return sample_complexity({n: of_n for n, of_n in errors.items() if of_n}, aim.eps, aim.delta)
