"""Which size to run next: bisection for n*(ε, δ) on a grid of n, then seeds until the interval is narrow. Pure.

A full grid runs every size; bisection asks for about log₂ of them. It supposes that the error falls with n: where a
curve is not monotone it finds one of its crossings, and the answer's first and last crossing are over the sizes that
were run. A size is run with its first few seeds: as many as can miss ε so often that all together do. All seeds are
run where these few do not agree, and wherever the answer or its interval rests (docs/decisions/0072).

Not an optimiser of cost: a size twice as large may cost eight times as much, and the middle is asked first.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bfc_core.statistics.complexity import (
    CONFIDENCE,
    Errors,
    SampleComplexity,
    meets,
    sample_complexity,
    seeds_that_meet,
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
    ask = _to_close(errors, aim, below, above) or _to_confirm(errors, aim, below, above)
    if ask is not None or aim.widest_interval is None:
        return ask
    return _to_narrow(errors, aim, below, above)


def _to_close(errors: Errors, aim: Aim, below: int, above: int) -> Ask | None:
    """What brings the ends of the bracket closer, None where they are neighbours on the grid."""
    for n in aim.grid:
        if errors.get(n) and _is_met(errors[n], aim) is None:
            return Ask((n,), aim.seeds)
    if above - below <= 1:
        return None
    seeds = _most_seeds_yet(errors, aim)
    few = aim.seeds - seeds_that_meet(aim.seeds, aim.delta) + 1
    return Ask((aim.grid[(below + above) // 2],), few if seeds == aim.seeds else seeds)


def _to_confirm(errors: Errors, aim: Aim, below: int, above: int) -> Ask | None:
    """All seeds where the answer rests: at the ends of a closed bracket, then at whatever else its interval reaches."""
    ends, seeds = _ends(aim, below, above), _most_seeds_yet(errors, aim)
    if min(len(errors[n]) for n in ends) < seeds:
        return Ask(ends, seeds)
    run = [n for n in aim.grid if errors.get(n)]
    if all(len(errors[n]) >= aim.seeds for n in run):
        return None
    found = _estimate(errors, aim).first
    low, high = found.low or 0.0, found.high or math.inf
    # An interval ends between two sizes that were run, and rests on both.
    lowest = max((n for n in run if n <= low), default=run[0])
    highest = min((n for n in run if n >= high), default=run[-1])
    thin = tuple(n for n in run if lowest <= n <= highest and len(errors[n]) < aim.seeds)
    return Ask(thin, aim.seeds) if thin else None


def _to_narrow(errors: Errors, aim: Aim, below: int, above: int) -> Ask | None:
    """What makes the interval of an answer narrower, None where it is settled or all seeds are spent."""
    seeds = _most_seeds_yet(errors, aim)
    beyond = _beyond_an_open_end(errors, aim, below, above)
    if beyond is not None:
        return Ask((beyond,), seeds)
    enough = min(aim.most_seeds, seeds_to_see(aim.delta))
    if seeds >= aim.most_seeds or (seeds >= enough and is_settled(errors, aim)):
        return None
    return Ask(_ends(aim, below, above), min(aim.most_seeds, max(2 * seeds, enough)))


def _ends(aim: Aim, below: int, above: int) -> tuple[int, ...]:
    return tuple(aim.grid[index] for index in (below, above) if 0 <= index < len(aim.grid))


def _most_seeds_yet(errors: Errors, aim: Aim) -> int:
    return max([aim.seeds, *(len(of_n) for of_n in errors.values())])


def bracket(errors: Errors, aim: Aim) -> tuple[int, int]:
    """Indices of the largest size known to miss ε and of the smallest known to meet it; −1, len(grid) for none."""
    met = {index: _is_met(errors[n], aim) for index, n in enumerate(aim.grid) if errors.get(n)}
    above = min((index for index, is_met in met.items() if is_met), default=len(aim.grid))
    below = max((index for index, is_met in met.items() if is_met is False and index < above), default=-1)
    return below, above


def _is_met(of_n: Mapping[int, float], aim: Aim) -> bool | None:
    """Whether a size meets ε.

    Of its first few seeds: that it misses ε is what all of them will say; that it meets ε is believed until it is the
    end of a bracket; None where they do not agree.
    """
    if len(of_n) >= aim.seeds:
        return meets(of_n, aim.eps, aim.delta)
    missing = sum(not error <= aim.eps for error in of_n.values())
    if missing > aim.seeds - seeds_that_meet(aim.seeds, aim.delta):
        return False
    return True if missing == 0 else None


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
