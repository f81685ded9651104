"""Gauss–Newton steps on a tied network: the valley that first-order steps follow for hours, in seconds.

A tied network has a few hundred parameters, θ = (K_2, K_3, …). With J the n × p Jacobian of the prediction,
r the slope of the data term and w its curvature (for Huber those of iteratively reweighted least squares),

    (Jᵀ diag(w) J + μ D) step = Jᵀ r,    D the diagonal of Jᵀ diag(w) J,

is Levenberg and Marquardt's step (K. Levenberg 1944, D. Marquardt 1963): accepted, and μ divided by 3, where the
objective falls; refused, and μ multiplied by 4, where it does not. λ₆ is 0 here, as Algorithm 1 lets it tend to.
Near a minimum that is not 0 (noise, labels, a frozen level) the objective is flat to its rounding at a distance of
√rounding, 1e-8, so there a step is judged by the gradient instead, which is exact to the rounding itself.
This is no part of arXiv:2001.04413: there the same minimum is reached by SGD in polynomial time
(docs/decisions/0011).

What decides is one member's and stands here; its arithmetic is asked for, so that members which ask for the same at a
time are answered together (:mod:`bfc_core.training.lockstep`, docs/decisions/0067).
Letters: n rows, p parameters.
"""

from collections.abc import Generator, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bfc_core.flops.networks import NetworkFlops
from bfc_core.networks.distilled_densenet import DistilledDenseNet
from bfc_core.training.objective import Objective

CHUNK = 256
"""Rows that are summed at a time: the same for every member, so that its sums do not depend on who is beside it."""

FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-2, 1e-9, 1e6

CONVERGED = 1e-24
"""The objective at which there is nothing left to gain in float64."""

RESOLUTION = 1e-12
"""A step that promises to lower the objective by less than this share of it is judged by the gradient; by less than
the square of it, there is nothing left to gain."""

PATIENCE = 4
"""Refusals by the gradient, one after another, after which only rounding is left of it."""


def parameters_of(network: DistilledDenseNet, trainable: tuple[int, ...]) -> int:
    """Entries of K over the trainable levels."""
    return sum(network.levels[level].k * network.levels[level].i for level in trainable)


@dataclass(frozen=True)
class NormalEquations:
    """Jᵀ diag(w) J, Jᵀ r, and the square of Jᵀ r with every parameter in its own scale, gᵀ D⁻¹ g.

    A parameter that may not move or that no row feels (α_ℓ = 0), which would make the matrix singular, has the row
    and column of the identity and no gradient.
    """

    normal: Float[Tensor, "p p"]
    gradient: Float[Tensor, " p"]
    size: float


@dataclass(frozen=True)
class Move:
    """Where a step leads, and by how much it promises to lower the objective."""

    flat: Float[Tensor, " p_all"]
    promised: float


@dataclass
class Value:
    """Asks for the data term over all rows of ``of`` at ``flat``."""

    of: "Refinement"
    flat: Float[Tensor, " p_all"]
    answer: float = field(init=False)

    @property
    def alike(self) -> Hashable:
        """What questions agree in that can be answered together, of refinements of one shape and objective."""
        return self.of.active


@dataclass
class Equations:
    """Asks for the normal equations of ``of`` at ``flat``."""

    of: "Refinement"
    flat: Float[Tensor, " p_all"]
    answer: NormalEquations = field(init=False)

    @property
    def alike(self) -> Hashable:
        """As :attr:`Value.alike`."""
        return self.of.active, self.of.trainable


@dataclass
class Step:
    """Asks for the damped step from ``flat``; None is answered where the damped matrix is not positive definite."""

    of: "Refinement"
    flat: Float[Tensor, " p_all"]
    equations: NormalEquations
    damping: float
    answer: Move | None = field(init=False)

    @property
    def alike(self) -> Hashable:
        """As :attr:`Value.alike`."""
        return self.of.trainable


Question = Value | Equations | Step

T = TypeVar("T")

Asking = Generator["Question | Fork[Any]", None, T]
"""Yields questions, each of which is answered before it is resumed; returns a result."""


@dataclass
class Fork(Generic[T]):
    """Asks for what ``askings`` return, whose questions are answered side by side."""

    askings: list[Asking[T]]
    answers: list[T] = field(init=False)


@dataclass(frozen=True)
class Refinement:
    """One member's data and frozen parts, all float64.

    ``network`` has every active level tied. ``movable`` is 1 where an entry of the flat row may move. ``offset`` is x₀
    of classification.
    """

    network: DistilledDenseNet
    lifts: dict[int, Float[Tensor, "q k"]]
    alphas: dict[int, Float[Tensor, ""]]
    movable: Float[Tensor, " p_all"]
    x: Float[Tensor, "n dim"]
    y: Float[Tensor, " n"]
    offset: Float[Tensor, " n"] | None
    objective: Objective
    active: tuple[int, ...]
    trainable: tuple[int, ...]

    def descent(self, flat: Float[Tensor, " p_all"], steps: int) -> Asking[Float[Tensor, " p_all"]]:
        """The row after at most ``steps`` steps; never with a larger objective than it came with."""
        damping, refusals = FIRST_DAMPING, 0
        value = yield from self.value(flat)
        equations = yield from self._equations(flat)
        for _ in range(steps):
            # Also ends where the value is no number.
            if not value > CONVERGED or damping >= MOST_DAMPING or refusals == PATIENCE:
                break
            step = Step(self, flat, equations, damping)
            yield step
            if step.answer is None:
                damping = min(4 * damping, MOST_DAMPING)
                continue
            moved, promised = step.answer.flat, step.answer.promised
            if promised <= RESOLUTION**2 * value:
                break
            found = yield from self.value(moved)
            by_gradient = promised <= RESOLUTION * value
            if not (found < value or (by_gradient and found <= (1 + RESOLUTION) * value)):
                damping = min(4 * damping, MOST_DAMPING)
                continue
            there = yield from self._equations(moved)
            if by_gradient and not there.size < equations.size:
                damping, refusals = min(4 * damping, MOST_DAMPING), refusals + 1
                continue
            flat, value, damping, refusals = moved, found, max(damping / 3, LEAST_DAMPING), 0
            equations = there
        return flat

    def value(self, flat: Float[Tensor, " p_all"]) -> Asking[float]:
        """The data term over all rows."""
        question = Value(self, flat)
        yield question
        return question.answer

    def _equations(self, flat: Float[Tensor, " p_all"]) -> Asking[NormalEquations]:
        question = Equations(self, flat)
        yield question
        return question.answer

    @cached_property
    def chunks(self) -> int:
        """How many chunks the rows fill; the last one is filled up."""
        return -(-len(self.x) // CHUNK)

    @cached_property
    def columns(self) -> Float[Tensor, "chunks dim+3 c"]:
        """The rows as they are computed with: x, y, x₀ and a weight, 1/n, one below the other; zeros fill up."""
        offset = torch.zeros_like(self.y) if self.offset is None else self.offset
        weight = torch.full_like(self.y, 1 / len(self.x))
        columns = torch.cat([self.x.mT, torch.stack([self.y, offset, weight])])
        filled = torch.nn.functional.pad(columns, (0, self.chunks * CHUNK - len(self.x)))
        return filled.view(len(columns), self.chunks, CHUNK).transpose(0, 1).contiguous()

    @cached_property
    def places(self) -> Int[Tensor, " p"]:
        """Where the parameters stand in a flat row."""
        return self.network.places(self.trainable).to(self.x.device)

    @cached_property
    def free(self) -> Bool[Tensor, " p"]:
        """Which of the parameters may move."""
        return self.movable[self.places] > 0

    @cached_property
    def costs(self) -> dict[type[Question], int]:
        """FLOPs of every kind of answer as if the member were alone; rows that fill up a chunk do not count."""
        network = NetworkFlops(self.network.hierarchy, self.network.dim, self.network.width)
        tied = tuple(self.network.tied)
        return {
            Value: network.value(self.active, tied, len(self.x)),
            Equations: network.equations(self.active, self.trainable, tied, len(self.x)),
            Step: network.solve(self.trainable),
        }
