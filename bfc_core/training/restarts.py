"""Ways out of a local minimum in which a refinement has ended: refine on a part of the rows first.

Targets of degree 16 have tails so heavy that a few rows can hold a whole fit in a minimum that is not the target's:
redrawing the top level, another δ of Huber's, or squared loss all lead back to it, whereas on a quarter of the rows,
which those few are not among, the same steps find the target (docs/decisions/0026). The rows that hold a fit are those
with the largest labels, so every other restart refines on the quarter with the smallest (docs/decisions/0028), the
others on a quarter drawn at random. The result is judged by the objective on all rows: only where that is lower than
the best so far is it refined on all of them, and kept. A floor (label noise, a frozen level) needs no guess at its
height: no part leads below it.
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bfc_core.seeding import generator_for
from bfc_core.training.refinement import Refinement
from bfc_core.training.schedule import can_be_refined

PARTS = 4
"""A restart sees one row in so many, and takes one refinement step where the refinement may take so many."""

SOLVED = 1e-12
"""Share of the mean square label below which an objective leaves nothing to look for."""

SECOND = 2
"""The restart that goes on from the best end so far: a refinement may have had too few steps for a long valley."""

LOWER = 1e-6
"""Least relative gain that is another minimum and not the same one once more."""


def restarted(
    refinement: Refinement,
    entered: Float[Tensor, "1 p"],
    refined: Float[Tensor, "1 p"],
    steps: int,
    restarts: int,
    seed: int,
) -> tuple[Float[Tensor, "1 p"], int, int]:
    """The best row, how many restarts were tried, and which of them it is of (0: none, it is ``refined``).

    The first restart begins where the refinement began and the second where the best one ended; the others have the
    top level of the beginning drawn afresh with the same norm. At most ``restarts`` are made, none where there is
    nothing to look for or too few rows for the parameters.
    """
    network, top = refinement.network, refinement.active[-1]
    rows = len(refinement.x) // PARTS
    best, value, kept = refined, refinement.value(refined), 0
    solved = SOLVED * float(refinement.y.square().mean())
    if not can_be_refined(len(network.places(refinement.trainable)), rows):
        return best, 0, kept
    for number in range(1, restarts + 1):
        if not value > solved:
            return best, number - 1, kept
        generator = generator_for(seed, "restart", number)
        part = _on(refinement, _part(refinement, rows, generator, is_bulk=number % 2 == 1))
        start = (best if number == SECOND else entered).clone()
        if number > SECOND:
            own = network.distilled(start, top)
            drawn = torch.randn(own.shape, generator=generator, dtype=own.dtype).to(own.device)
            own.copy_(drawn * own.norm() / drawn.norm())
        found = part.run(start, max(1, steps // PARTS))
        if not refinement.value(found) < (1 - LOWER) * value:
            continue
        found = refinement.run(found, steps)
        best, value, kept = found, refinement.value(found), number
    return best, restarts, kept


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
