"""One optimiser step of a pack, and who starts its operations: Python, one by one, or a graph that a GPU replays.

A step of a small pack is a hundred operations of a few microseconds each. On a GPU starting them takes longer than
they do; a CUDA graph is one start. It replays what it recorded on the very same arrays, so all that changes from step
to step (rows, step size, who may move) is written into arrays that the graph reads.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bfc_core.networks.batch_gradient import BatchGradient
from bfc_core.networks.distilled_densenet import DistilledDenseNet
from bfc_core.networks.member_arrays import member_rows
from bfc_core.specs import Recipe
from bfc_core.training.adam import Adam, AdamSteps, corrected
from bfc_core.training.members import Batch, Members, TrainingData
from bfc_core.training.objective import Objective
from bfc_core.training.regularizer import Regularizer
from bfc_core.training.schedule import Stage

WARM_UP = 3
"""Steps before a recording, in which libraries make what they make at first use."""


class Steps:
    """Moves ``members.flat`` in place. Letters: e members, s steps, b rows of a batch, p parameters."""

    def __init__(
        self,
        network: DistilledDenseNet,
        members: Members,
        data: TrainingData,
        stage: Stage,
        recipe: Recipe,
        objective: Objective,
        adam: Adam,
    ) -> None:
        self.members, self.data, self.stage, self.recipe = members, data, stage, recipe
        self.objective, self.adam = objective, adam
        self.gradient = member_rows(torch.zeros_like(members.flat))
        self._moves = AdamSteps(adam, members.flat, self.gradient, recipe.clip_norm)
        self._gradients = BatchGradient(
            network,
            members.flat,
            self.gradient,
            members.lifts,
            members.alphas,
            stage.active,
            frozenset(stage.trainable),
            recipe.batch_size,
        )
        regularizer = Regularizer(
            network,
            recipe.tie_weights,
            stage.norm_weight(recipe),
            members.alphas,
            weight=objective.regularizer_weight,
        )
        self._regularizer = regularizer.gradient_into(
            self.gradient, members.flat, stage.trainable, stage.distilled
        )

    def take(
        self, batches: Int[Tensor, "s e b"], step_sizes: list[float], movable: Float[Tensor, "e p"] | None
    ) -> None:
        """One step a batch; ``movable`` is 1 where a parameter may move, None where all may."""
        # Nothing is differentiated, so no operation needs to ask; whatever is made in here is gone afterwards.
        with torch.inference_mode():
            for batch, step_size in zip(self.data.batches(batches), step_sizes, strict=True):
                self.find_gradient(batch, movable)
                self._moves.take(step_size)

    def find_gradient(self, batch: Batch, movable: Float[Tensor, "e p"] | None) -> None:
        """The gradient of the objective on a batch, into ``gradient``."""
        self._regularizer.write()
        predicted = batch.predicted(self._gradients.forward(batch.x))
        self._gradients.backward(self.objective.row_slopes(predicted, batch.y))
        if movable is not None:
            self.gradient.mul_(movable)


class GraphedSteps(Steps):
    """The same steps as a CUDA graph, recorded at the first batch. Only for members on a GPU."""

    _graph: torch.cuda.CUDAGraph | None = None

    def take(
        self, batches: Int[Tensor, "s e b"], step_sizes: list[float], movable: Float[Tensor, "e p"] | None
    ) -> None:
        """Fill in what a step reads and replay it, batch by batch; nothing waits for the GPU."""
        flat = self.members.flat
        if self._graph is None:
            self._rows = batches[0].clone()
            self._rates = torch.zeros(2, dtype=flat.dtype, device=flat.device)
            self._movable = torch.ones_like(flat)
            self._graph = self._recorded()
        self._movable.copy_(torch.ones_like(flat) if movable is None else movable)
        rates = torch.tensor(
            [
                corrected(step_size, self.adam.count + number)
                for number, step_size in enumerate(step_sizes, start=1)
            ],
            dtype=flat.dtype,
        ).to(flat.device)
        for rows, rate in zip(batches, rates, strict=True):
            self._rows.copy_(rows)
            self._rates.copy_(rate)
            self._graph.replay()
        self.adam.count += len(step_sizes)

    def step(self) -> None:
        """One step with the rows, rates and mask that were filled in."""
        self.find_gradient(self.data.batch(self._rows), self._movable)
        self._moves.take_by(self._rates)

    def _recorded(self) -> torch.cuda.CUDAGraph:
        """The graph of a step. Warming up moves the members and their moments; afterwards they are put back."""
        arrays = (self.members.flat, self.adam.first, self.adam.second)
        before = [array.clone() for array in arrays]
        device = self.members.flat.device
        aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self.step()
        torch.cuda.current_stream(device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(device), torch.cuda.graph(graph):
            self.step()
        for array, was in zip(arrays, before, strict=True):
            array.copy_(was)
        return graph
