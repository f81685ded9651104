"""The one place that steps an optimiser."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from bfc_core.networks.distilled_densenet import DistilledDenseNet
from bfc_core.specs import Recipe
from bfc_core.training.adam import Adam, cosine_step_size
from bfc_core.training.members import BATCH_BLOCK, Members, TrainingData
from bfc_core.training.objective import logistic_slope, loss_slope
from bfc_core.training.regularizer import Regularizer
from bfc_core.training.schedule import Stage


@dataclass
class StageState:
    """Where a stage stands: enough, with the members' parameters, to continue it bit for bit."""

    adam: Adam
    step: int
    finite: Bool[Tensor, " e"]


def train_stage(
    network: DistilledDenseNet,
    members: Members,
    data: TrainingData,
    stage: Stage,
    recipe: Recipe,
    first_step: int,
    state: StageState,
    after_block: Callable[[StageState], bool],
) -> None:
    """Run ``stage`` to its end from ``state``, moving ``members.flat`` in place.

    ``first_step`` is the number of steps before this stage: it selects the batches. ``after_block`` is
    called after every block of batches and may end the stage by answering false. A member whose
    parameters stop being finite is set aside (``state.finite``) and touches no other.
    """
    network = network.with_tied(stage.tied)
    peak = recipe.step_size * (recipe.tied_step_factor if stage.all_tied else 1.0)
    regularizer = Regularizer(network, recipe.tie_weights, stage.norm_weight(recipe), members.alphas)
    trainable = frozenset(stage.trainable)
    movable = members.movable * state.finite[:, None]
    gradient = torch.zeros_like(members.flat)
    while state.step < stage.steps:
        block, offset = divmod(first_step + state.step, BATCH_BLOCK)
        batches = members.batches(block, recipe.batch_size)
        for rows in batches[offset : offset + stage.steps - state.step]:
            x, y = data.x[rows], data.y[rows]
            passed = network.forward(members.flat, members.lifts, members.alphas, x, stage.active)
            if data.offset is None:
                slope = loss_slope(passed.output - y, recipe.loss, recipe.huber_delta)
            else:
                slope = logistic_slope(data.offset[rows] + passed.output, y, recipe.logistic_scale)
            gradient.zero_()
            network.backward(members.flat, members.lifts, members.alphas, passed, slope, trainable, gradient)
            regularizer.add_gradient(members.flat, stage.trainable, stage.distilled, gradient)
            gradient.mul_(movable)
            step_size = cosine_step_size(state.step, stage.steps, peak)
            state.adam.step(members.flat, gradient, step_size, recipe.clip_norm)
            state.step += 1
        finite = members.flat.isfinite().all(1)
        if not bool(finite.all()):
            state.finite &= finite
            movable = members.movable * state.finite[:, None]
            members.flat[~finite] = 0.0
            state.adam.first[~finite] = 0.0
            state.adam.second[~finite] = 0.0
        if not after_block(state):
            return
