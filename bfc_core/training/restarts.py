"""Ways out of a local minimum in which a refinement has ended: refine on a part of the rows first.

Targets of degree 16 have tails so heavy that a few rows can hold a whole fit in a minimum that is not the target's:
redrawing the top level, another δ of Huber's, or squared loss all lead back to it, whereas on a quarter of the rows,
which those few are not among, the same steps find the target (docs/decisions/0026). The rows that hold a fit are those
with the largest labels, so every other restart refines on the rows with the smallest (docs/decisions/0028), the
others on a quarter drawn at random. Where a level below the top is wrong too, it takes fewer of those rows, or that
level drawn afresh with the top (docs/decisions/0029). The result is judged by the objective on all rows: only where
that is lower than the best so far is it refined on all of them, and kept. A floor (label noise, a frozen level) needs
no guess at its height: no part leads below it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bfc_core.seeding import generator_for
from bfc_core.training.refinement import Asking, Fork, Refinement
from bfc_core.training.schedule import SAMPLES_A_PARAMETER, can_be_refined

PARTS = 4
"""A restart sees one row in so many, and takes one refinement step where the refinement may take so many."""


@dataclass(frozen=True)
class Attempt:
    """How a restart begins: on one row in ``parts``, with so many levels from the top drawn afresh."""

    is_bulk: bool
    parts: int = PARTS
    fresh: int = 0
    goes_on: bool = False
    """Whether it begins where the best one ended, and not where the refinement began."""


FIRST_ATTEMPTS = (
    Attempt(is_bulk=True),
    # A refinement may have had too few steps for a long valley.
    Attempt(is_bulk=False, goes_on=True),
    Attempt(is_bulk=True, parts=16),
)
FURTHER_ATTEMPTS = (
    Attempt(is_bulk=False, fresh=1),
    Attempt(is_bulk=True, parts=16, fresh=2),
    Attempt(is_bulk=False, fresh=1),
    Attempt(is_bulk=True, fresh=2),
    Attempt(is_bulk=False, fresh=2),
)
"""Taken in turn, since each draws anew."""

SOLVED = 1e-12
"""Share of the mean square label below which an objective leaves nothing to look for."""

WAVE = 7
"""Most restarts that are made side by side."""

EQUATIONS_BYTES = 2**24
"""What the normal matrices of refinements side by side may fill, each once. Large ones gain nothing from company."""

LOWER = 1e-6
"""Least relative gain that is another minimum and not the same one once more."""


def restarted(
    refinement: Refinement,
    entered: Float[Tensor, " p"],
    refined: Float[Tensor, " p"],
    steps: int,
    restarts: int,
    seed: int,
) -> Asking[tuple[Float[Tensor, " p"], int, int]]:
    """The best row, how many restarts were tried, and which of them it is of (0: none, it is ``refined``).

    They begin as :data:`FIRST_ATTEMPTS` and :data:`FURTHER_ATTEMPTS` say. At most ``restarts`` are made, none where
    there is nothing to look for or too few rows for the parameters.
    """
    parameters = len(refinement.places)
    best, kept = refined, 0
    value = yield from refinement.value(refined)
    solved = SOLVED * float(refinement.y.square().mean())
    if not can_be_refined(parameters, len(refinement.x) // PARTS):
        return best, 0, kept
    for wave in _waves(restarts, parameters):
        if not value > solved:
            return best, wave.start - 1, kept
        begun = Fork([_begun(refinement, entered, best, steps, seed, number) for number in wave])
        yield begun
        for number, (found, lower) in zip(wave, begun.answers, strict=True):
            if not value > solved:
                return best, number - 1, kept
            if not lower < (1 - LOWER) * value:
                continue
            best = yield from refinement.descent(found, steps)
            value = yield from refinement.value(best)
            kept = number
    return best, restarts, kept


def abreast(parameters: int) -> int:
    """How many restarts of so many parameters are made at a time, 1 to :data:`WAVE`."""
    return max(1, min(WAVE, EQUATIONS_BYTES // (8 * parameters**2)))


def _waves(restarts: int, parameters: int) -> Iterator[range]:
    """The first restart, which is often enough, then some at a time.

    Where a restart leads does not depend on those before it, but for the one that goes on where the best ended, and
    that one begins a wave; so they are made side by side and judged in turn.
    """
    start, width = 1, 1
    while start <= restarts:
        stop = min(start + width, restarts + 1)
        yield range(start, stop)
        start, width = stop, abreast(parameters)


def _begun(
    refinement: Refinement,
    entered: Float[Tensor, " p"],
    best: Float[Tensor, " p"],
    steps: int,
    seed: int,
    number: int,
) -> Asking[tuple[Float[Tensor, " p"], float]]:
    """Where restart ``number`` leads on its part of the rows, and the objective there on all rows."""
    parameters = len(refinement.places)
    attempt, generator = _attempt(number), generator_for(seed, "restart", number)
    rows = max(len(refinement.x) // attempt.parts, SAMPLES_A_PARAMETER * parameters)
    part = _on(refinement, _part(refinement, rows, generator, is_bulk=attempt.is_bulk))
    start = (best if attempt.goes_on else entered).clone()
    for level in _fresh_levels(refinement, attempt.fresh):
        own = refinement.network.distilled(start[None], level)
        drawn = torch.randn(own.shape, generator=generator, dtype=own.dtype).to(own.device)
        own.copy_(drawn * own.norm() / drawn.norm())
    # Fewer rows, more steps: every restart may take the same work.
    found = yield from part.descent(start, max(1, steps * len(refinement.x) // (PARTS**2 * rows)))
    return found, (yield from refinement.value(found))


def _attempt(number: int) -> Attempt:
    if number <= len(FIRST_ATTEMPTS):
        return FIRST_ATTEMPTS[number - 1]
    return FURTHER_ATTEMPTS[(number - len(FIRST_ATTEMPTS) - 1) % len(FURTHER_ATTEMPTS)]


def _fresh_levels(refinement: Refinement, count: int) -> list[int]:
    """The highest levels that may move; what all others read, the lowest, stays unless it is the top."""
    lowest, top = refinement.active[0], refinement.active[-1]
    highest = [level for level in refinement.active if level == top or level > lowest][::-1][:count]
    return [level for level in highest if level in refinement.trainable]


def _part(
    refinement: Refinement, rows: int, generator: torch.Generator, *, is_bulk: bool
) -> Int[Tensor, " rows"]:
    """The rows with the smallest labels, or rows drawn at random; labels ±1 of classes have no bulk."""
    if is_bulk and refinement.offset is None:
        return refinement.y.abs().argsort(stable=True)[:rows].sort().values
    drawn = torch.randperm(len(refinement.x), generator=generator)[:rows]
    return drawn.sort().values.to(refinement.x.device)


def _on(refinement: Refinement, rows: Int[Tensor, " rows"]) -> Refinement:
    """The same refinement on these rows only."""
    offset = None if refinement.offset is None else refinement.offset[rows]
    return replace(refinement, x=refinement.x[rows], y=refinement.y[rows], offset=offset)
