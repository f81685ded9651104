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

Members are refined one after another, in float64, so a pack changes nothing.
Letters: n rows, p parameters, c rows of a chunk.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.flops.counting import RepeatedWork
from bfc_core.networks.distilled_densenet import DistilledDenseNet
from bfc_core.training.objective import Objective

CHUNK = 4096
"""Rows whose Jacobian is in memory at a time."""

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
class Refinement:
    """One member's data and frozen parts, all float64 with a member axis of 1.

    ``network`` has every active level tied. ``movable`` is 1 where an entry of the flat row may move.
    """

    network: DistilledDenseNet
    lifts: dict[int, Float[Tensor, "1 q k"]]
    alphas: dict[int, Float[Tensor, " 1"]]
    movable: Float[Tensor, "1 p_all"]
    x: Float[Tensor, "n dim"]
    y: Float[Tensor, " n"]
    offset: Float[Tensor, " n"] | None
    objective: Objective
    active: tuple[int, ...]
    trainable: tuple[int, ...]
    work: RepeatedWork = field(default_factory=RepeatedWork, init=False)

    def run(self, flat: Float[Tensor, "1 p_all"], steps: int) -> Float[Tensor, "1 p_all"]:
        """The row after at most ``steps`` steps; never with a larger objective than it came with."""
        damping, refusals = FIRST_DAMPING, 0
        value = self.value(flat)
        normal, gradient, places = self._normal_equations(flat)
        for _ in range(steps):
            # Also ends where the value is no number.
            if not value > CONVERGED or damping >= MOST_DAMPING or refusals == PATIENCE:
                break
            diagonal = normal.diagonal()
            factor, failed = torch.linalg.cholesky_ex(normal + torch.diag(damping * diagonal))
            if bool(failed):
                damping = min(4 * damping, MOST_DAMPING)
                continue
            step = torch.cholesky_solve(gradient[:, None], factor)[:, 0]
            promised = float(gradient @ step)
            if promised <= RESOLUTION**2 * value:
                break
            moved = flat.clone()
            moved[0, places] -= step
            found = self.value(moved)
            by_gradient = promised <= RESOLUTION * value
            if not (found < value or (by_gradient and found <= (1 + RESOLUTION) * value)):
                damping = min(4 * damping, MOST_DAMPING)
                continue
            equations = self._normal_equations(moved)
            if by_gradient and not _size(equations) < _size((normal, gradient)):
                damping, refusals = min(4 * damping, MOST_DAMPING), refusals + 1
                continue
            flat, value, damping, refusals = moved, found, max(damping / 3, LEAST_DAMPING), 0
            normal, gradient, places = equations
        return flat

    def value(self, flat: Float[Tensor, "1 p_all"]) -> float:
        """The data term over all rows."""
        with self.work.counted("value"):
            return self._value(flat)

    def _value(self, flat: Float[Tensor, "1 p_all"]) -> float:
        total = 0.0
        for rows in self._chunks():
            output = self.network.forward(
                flat, self.lifts, self.alphas, self.x[rows][None], self.active
            ).output
            total += len(self.x[rows]) * float(
                self.objective.value(self._predicted(output, rows), self.y[rows][None])[0]
            )
        return total / len(self.x)

    def _normal_equations(
        self, flat: Float[Tensor, "1 p_all"]
    ) -> tuple[Float[Tensor, "p p"], Float[Tensor, " p"], Tensor]:
        """Jᵀ diag(w) J, Jᵀ r and the places of the p parameters in the flat row.

        A parameter that no row feels (α_ℓ = 0) is left out: it would make the matrix singular.
        """
        places = self.network.places(self.trainable).to(flat.device)
        with self.work.counted("normal equations"):
            normal, gradient = self._sums(flat, len(places))
        felt = (normal.diagonal() > 0) & (self.movable[0, places] > 0)
        return normal[felt][:, felt], gradient[felt], places[felt]

    def _sums(
        self, flat: Float[Tensor, "1 p_all"], p: int
    ) -> tuple[Float[Tensor, "p p"], Float[Tensor, " p"]]:
        normal, gradient = flat.new_zeros(p, p), flat.new_zeros(p)
        for rows in self._chunks():
            x, y = self.x[rows][None], self.y[rows][None]
            passed = self.network.forward(flat, self.lifts, self.alphas, x, self.active)
            jacobian = self.network.jacobian(flat, self.lifts, self.alphas, passed, self.trainable)[0]
            predicted = self._predicted(passed.output, rows)
            share = y.shape[1] / len(self.x)
            gradient += share * (jacobian.mT @ self.objective.slope(predicted, y)[0])
            weight = self.objective.curvature(predicted, y)[0] * share
            normal += jacobian.mT @ (jacobian * weight[:, None])
        return normal, gradient

    def _predicted(self, output: Float[Tensor, "1 c"], rows: slice) -> Float[Tensor, "1 c"]:
        return output if self.offset is None else output + self.offset[rows][None]

    def _chunks(self) -> list[slice]:
        return [slice(start, start + CHUNK) for start in range(0, len(self.x), CHUNK)]


def _size(equations: tuple[Tensor, ...]) -> float:
    """The gradient's square, every parameter in its own scale: gᵀ D⁻¹ g."""
    normal, gradient = equations[:2]
    return float((gradient.square() / normal.diagonal()).sum())
