"""The networks that runs bring into a stage."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.flops.counting import FlopCounter
from bfc_core.learners.histories import History
from bfc_core.networks.distilled_densenet import DistilledDenseNet
from bfc_core.seeding import generator_for
from bfc_core.specs import Recipe, RunSpec
from bfc_core.training.distillation import initial_distill
from bfc_core.training.schedule import Stage


class EnteringNetworks:
    """Draws the networks that training begins with, and prepares the trained ones for their next stage.

    Letters: p parameters, q × k the frozen lift of a level.
    """

    def __init__(self, network: DistilledDenseNet, recipe: Recipe, device: str, dtype: torch.dtype) -> None:
        self.network, self.recipe = network, recipe
        self.device, self.dtype = device, dtype

    def drawn(self, spec: RunSpec) -> tuple[dict[int, Float[Tensor, "q k"]], Float[Tensor, " p"]]:
        """The frozen lifts R and the first parameters of a run, from its seed."""
        generator = generator_for(spec.seed, "init")
        lifts = self.network.draw_lifts(generator)
        flat = self.network.draw_weights(generator, self.recipe.init_scale)
        return {level: lift.to(self.device, self.dtype) for level, lift in lifts.items()}, flat.to(
            self.device, self.dtype
        )

    def entering(self, run: int, spec: RunSpec, stage: Stage, before: History | None) -> History:
        """A network of its own for the stage: ``before`` or drawn afresh, with what the stage resets and distils."""
        if before is None:
            entering = History(run, self.drawn(spec)[1], {})
        else:
            entering = replace(before, run=run, flat=before.flat.clone(), ranks=dict(before.ranks))
        row = entering.flat[None]
        if stage.resets:
            drawn = self.drawn(spec)[1][None]
            for level in stage.resets:
                self.network.weights(row, level).copy_(self.network.weights(drawn, level))
                self.network.distilled(row, level).copy_(self.network.distilled(drawn, level))
        if stage.enters is not None and entering.finite:
            shape = self.network.levels[stage.enters]
            wide = self.network.weights(row, stage.enters)[0]
            with FlopCounter() as counter:
                distilled, rank = initial_distill(wide, stage.enters, shape)
            entering.spend(counter.flops)
            if self.recipe.rank == "threshold":
                distilled[rank:] = 0.0
            self.network.distilled(row, stage.enters)[0] = distilled
            entering.ranks[stage.enters] = rank
        return entering
