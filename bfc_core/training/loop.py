"""A stage of training from block of batches to block of batches, until it ends."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bfc_core.networks.distilled_densenet import DistilledDenseNet
from bfc_core.specs import Recipe
from bfc_core.training.adam import Adam, cosine_step_size
from bfc_core.training.members import BATCH_BLOCK, Members, TrainingData
from bfc_core.training.objective import Objective
from bfc_core.training.plateau import Plateau
from bfc_core.training.schedule import Stage
from bfc_core.training.stepping import GraphedSteps, Steps

VALIDATION_ROWS = 1000
"""Held-out rows on which a plateau is looked for, after every block of steps."""


@dataclass
class StageState:
    """Where a stage stands: enough, with the members' parameters, to continue it bit for bit."""

    adam: Adam
    step: int
    finite: Bool[Tensor, " e"]
    made: Int[Tensor, " e"]
    """Steps of every member: until it left its stage, or its parameters were not finite any more."""
    looks: Int[Tensor, " e"]
    """Blocks of these steps, after each of which a plateau is looked for."""
    plateau: Plateau | None = None
    """Where stages end early; None where every stage has its number of steps."""
    is_counted: bool = True
    """Whether ``made`` and ``looks`` are known: a checkpoint of an earlier version did not say."""

    @classmethod
    def fresh(cls, flat: Float[Tensor, "e p"], finite: list[bool], *, has_plateau: bool) -> "StageState":
        """Before the first step of members of which some are not finite any more."""
        made, looks = torch.zeros(2, len(flat), dtype=torch.int64)
        plateau = Plateau.fresh(len(flat)) if has_plateau else None
        return cls(Adam.fresh(flat), 0, torch.tensor(finite, device=flat.device), made, looks, plateau)

    @classmethod
    def resumed(
        cls, flat: Float[Tensor, "e p"], saved: Mapping[str, Any], *, has_plateau: bool
    ) -> "StageState":
        """Where a checkpoint left it."""
        step = int(saved["step"])
        plateau = None
        made = torch.full((len(flat),), step)
        if has_plateau:
            plateau = Plateau(*(saved[name] for name in ("best", "best_step", "left", "taken")))
            made = torch.where(plateau.left, plateau.taken, made)
        return cls(
            Adam.resumed(saved["first"].to(flat), saved["second"].to(flat), step),
            step,
            saved["finite"].to(flat.device),
            saved.get("made", made),
            saved.get("looks", torch.zeros_like(made)),
            plateau,
            "made" in saved,
        )

    def snapshot(self, flat: Float[Tensor, "e p"]) -> dict[str, Any]:
        """What :meth:`resumed` continues from, with the members' parameters; it shares no memory with the state."""
        values: dict[str, Any] = {
            "flat": flat,
            "first": self.adam.first,
            "second": self.adam.second,
            "finite": self.finite,
            "step": self.step,
            "made": self.made,
            "looks": self.looks,
        } | ({} if self.plateau is None else vars(self.plateau))
        return {name: value.clone() if isinstance(value, Tensor) else value for name, value in values.items()}

    def presence(self, row: int, stage: Stage) -> tuple[bool, bool]:
        """Whether a member is still in the stage, and whether it ends the stage with this very block."""
        if self.plateau is None:
            return True, self.step == stage.steps
        left = bool(self.plateau.left[row])
        return not left, left and int(self.plateau.taken[row]) == self.step

    def set_aside(self, gone: Bool[Tensor, " e"]) -> None:
        """No momentum moves these members any more."""
        self.adam.first[gone] = 0.0
        self.adam.second[gone] = 0.0


def train_stage(
    network: DistilledDenseNet,
    members: Members,
    data: TrainingData,
    stage: Stage,
    recipe: Recipe,
    objective: Objective,
    first_step: int,
    state: StageState,
    after_block: Callable[[StageState], bool],
    *,
    cuda_graphs: bool = False,
) -> None:
    """Run ``stage`` to its end from ``state``, moving ``members.flat`` in place.

    ``first_step`` is the number of steps before this stage: it selects the batches. ``after_block`` is
    called after every block of batches and may end the stage by answering false. A member whose
    parameters stop being finite is set aside (``state.finite``) and touches no other. With ``cuda_graphs`` a
    GPU replays one recorded step.
    """
    network = network.with_tied(stage.tied)
    peak = recipe.step_size * (recipe.tied_step_factor if stage.all_tied else 1.0)
    kind = GraphedSteps if cuda_graphs else Steps
    steps = kind(network, members, data, stage, recipe, objective, state.adam)
    movable = _movable(members, state)
    while state.step < stage.steps:
        block, offset = divmod(first_step + state.step, BATCH_BLOCK)
        batches = members.batches(block, recipe.batch_size)[offset : offset + stage.steps - state.step]
        numbers = range(state.step, state.step + len(batches))
        moving = _moving(state).cpu()
        steps.take(batches, [cosine_step_size(step, stage.steps, peak) for step in numbers], movable)
        state.made += len(batches) * moving
        state.looks += moving
        state.step += len(batches)
        finite = members.flat.isfinite().all(1)
        if not bool(finite.all()):
            state.finite &= finite
            members.flat[~finite] = 0.0
            state.set_aside(~finite)
        if state.plateau is not None:
            _look(network, members, data, stage, recipe, objective, state, state.plateau)
        movable = _movable(members, state)
        if not after_block(state) or (state.plateau is not None and bool(state.plateau.left.all())):
            return


def _movable(members: Members, state: StageState) -> Tensor | None:
    """1 where a parameter may move; None where all may."""
    movable = members.movable * _moving(state)[:, None]
    return None if bool(movable.all()) else movable


def _moving(state: StageState) -> Bool[Tensor, " e"]:
    """Who is still in the stage."""
    if state.plateau is None:
        return state.finite
    return state.finite & ~state.plateau.left.to(state.finite.device)


def _look(
    network: DistilledDenseNet,
    members: Members,
    data: TrainingData,
    stage: Stage,
    recipe: Recipe,
    objective: Objective,
    state: StageState,
    plateau: Plateau,
) -> None:
    """Let go of the members whose validation objective has stopped improving, and of all at the stage's end."""
    rows = members.validation_rows(VALIDATION_ROWS)
    batch = data.batch(rows)
    output = network.forward(members.flat, members.lifts, members.alphas, batch.x, stage.active).output
    value = objective.value(batch.predicted(output), batch.y)
    patience = max(1, round(recipe.plateau_patience * stage.steps))
    leaving = plateau.look(value, state.step, patience, recipe.plateau_tolerance)
    state.set_aside(leaving.to(state.finite.device))
    if state.step == stage.steps:
        plateau.close(state.step)
