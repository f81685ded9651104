"""Two quadratic layers with readouts: the smallest network on which backward correction shows.

h = (W₁x)² − ‖w‖² by row, f̂ = c + v₁ᵀh + v₂ᵀ(W₂h)². The mean of (w·x)² is taken off h, so that level 2 has no
degree-2 part which the direct readout could carry as well: the form W₁ᵀ diag(v₁) W₁ of level 1 is well defined.
Every way on from the first phase repeats it to the last bit, since all of them draw the same start and batches.

Letters: n samples, b rows of a batch, d inputs, m₁ and m₂ neurons, p parameters.
"""

from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.baseline_cost import BATCHES_DRAWN
from bfc_core.flops.baselines import quadratic_network_step
from bfc_core.flops.counting import charged
from bfc_core.learners.baseline import FitContext, FittedFunction
from bfc_core.networks.member_arrays import member_rows
from bfc_core.seeding import generator_for
from bfc_core.specs.baselines import QuadraticNetwork
from bfc_core.training.adam import Adam, AdamSteps, cosine_step_size

LOWER, UPPER = frozenset({"W1", "v1", "c"}), frozenset({"W2", "v2", "c"})


class Layers:
    """Where parameters stand in a flat row, and the network's values."""

    def __init__(self, dim: int, widths: tuple[int, int]) -> None:
        lower, upper = widths
        self.shapes = {"W1": (lower, dim), "v1": (lower,), "W2": (upper, lower), "v2": (upper,), "c": (1,)}

    def draw(self, generator: torch.Generator, scale: float) -> Float[Tensor, " p"]:
        """Every entry N(0, scale²/i) with i the numbers that its row reads; c is zero."""
        drawn = [
            scale / sqrt(shape[-1]) * torch.randn(shape, generator=generator, dtype=torch.float64).flatten()
            for name, shape in self.shapes.items()
            if name != "c"
        ]
        return torch.cat([*drawn, torch.zeros(1, dtype=torch.float64)])

    def parts(self, flat: Float[Tensor, " p"]) -> dict[str, Tensor]:
        """The parameters by name, views of ``flat``."""
        sizes = [int(torch.Size(shape).numel()) for shape in self.shapes.values()]
        pieces = torch.split(flat, sizes)
        return {
            name: piece.view(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }

    def mask(self, names: frozenset[str]) -> Float[Tensor, " p"]:
        """1 where a parameter has one of the names."""
        return torch.cat(
            [
                torch.full((torch.Size(shape).numel(),), float(name in names), dtype=torch.float64)
                for name, shape in self.shapes.items()
            ]
        )

    def forward(
        self, flat: Float[Tensor, " p"], x: Float[Tensor, "b d"], *, upper: bool
    ) -> Float[Tensor, " b"]:
        """f̂; without ``upper`` the second layer is left out of the output."""
        part = self.parts(flat)
        h = (x @ part["W1"].mT).square() - part["W1"].square().sum(1)
        value: Tensor = part["c"] + h @ part["v1"]
        return value + (h @ part["W2"].mT).square() @ part["v2"] if upper else value

    def form(self, flat: Float[Tensor, " p"]) -> Float[Tensor, "d d"]:
        """W₁ᵀ diag(v₁) W₁: what the direct readout of the lower layer is as a quadratic form of x."""
        part = self.parts(flat)
        return part["W1"].mT @ (part["v1"][:, None] * part["W1"])


def fit_quadratic_network(
    learner: QuadraticNetwork, x: Float[Tensor, "n d"], y: Float[Tensor, " n"], context: FitContext
) -> FittedFunction:
    """The lower layer alone, then as many steps more of what ``second`` names."""
    layers = Layers(x.shape[1], learner.widths)
    flat = layers.draw(context.initial(), learner.init_scale)
    second = {"joint": LOWER | UPPER, "layerwise": UPPER, "again": LOWER}[learner.second]
    phases = ((LOWER, False), (second, learner.second != "again"))
    for phase, (movable, upper) in enumerate(phases):
        of_a_step = quadratic_network_step(x.shape[1], learner.widths, learner.batch_size, upper=upper)
        # Autograd's products are seen by no counter.
        with charged(learner.steps_per_phase * of_a_step):
            flat = _trained(learner, layers, flat, x, y, phase, layers.mask(movable), context, upper=upper)

    def function(rows: Tensor) -> Tensor:
        return layers.forward(flat, rows, upper=learner.second != "again")

    context.progress(2 * learner.steps_per_phase, 2 * learner.steps_per_phase)
    return FittedFunction(
        function,
        {"final_training_mse": float((function(x) - y).square().mean())},
        level_forms={1: layers.form(flat)},
    )


def _trained(
    learner: QuadraticNetwork,
    layers: Layers,
    flat: Float[Tensor, " p"],
    x: Float[Tensor, "n d"],
    y: Float[Tensor, " n"],
    phase: int,
    movable: Float[Tensor, " p"],
    context: FitContext,
    *,
    upper: bool,
) -> Float[Tensor, " p"]:
    """One phase: batches with replacement, fresh moments, the step size a cosine down to zero."""
    row, row_gradient = member_rows(flat[None]), member_rows(flat[None])
    moves = AdamSteps(Adam.fresh(row), row, row_gradient, learner.clip_norm)
    generator = generator_for(context.seed, "batches", phase)
    for step in range(learner.steps_per_phase):
        if step % BATCHES_DRAWN == 0:
            context.progress(phase * learner.steps_per_phase + step, 2 * learner.steps_per_phase)
            drawn = torch.randint(len(x), (BATCHES_DRAWN, learner.batch_size), generator=generator)
        rows = drawn[step % BATCHES_DRAWN]
        leaf = row[0].detach().requires_grad_()
        loss = (layers.forward(leaf, x[rows], upper=upper) - y[rows]).square().mean()
        (gradient,) = torch.autograd.grad(loss, leaf)
        gradient.add_(row[0], alpha=learner.weight_decay).mul_(movable)
        size = cosine_step_size(step, learner.steps_per_phase, learner.step_size)
        row_gradient.copy_(gradient)
        moves.take(size)
    return row[0]
