"""What is trained when: the stages of each hierarchical learner, as data.

A stage says which levels are in the output (``active``), which have a distilled K (``distilled``), and
which may move (``trainable``). Two learners whose first stages agree have trained the same network so far;
the trainer uses that to train a common beginning once, which is also what makes a control exact: it starts
from the very checkpoint of the arm that it controls.
"""

from dataclasses import dataclass
from typing import assert_never

from bfc_core.specs import (
    AlgorithmOne,
    HierarchicalLearner,
    Hierarchy,
    Joint,
    Layerwise,
    MatchedComputeControl,
)


@dataclass(frozen=True)
class Stage:
    """One stretch of optimiser steps with a fixed set of moving parts and its own cosine step-size decay."""

    name: str
    active: tuple[int, ...]
    distilled: tuple[int, ...]
    trainable: tuple[int, ...]
    steps: int
    enters: int | None = None
    """The level whose K is distilled from its W as the stage begins."""


def stages_of(learner: HierarchicalLearner, hierarchy: Hierarchy) -> tuple[Stage, ...]:
    """The schedule of a learner on a hierarchy; every learner takes the same number of steps."""
    levels, steps = hierarchy.levels, learner.steps_per_stage
    match learner:
        case Joint():
            return (Stage("joint", levels, levels, levels, 2 * len(levels) * steps),)
        case AlgorithmOne():
            return _staged(levels, steps, lower_levels_frozen=False)
        case Layerwise():
            return _staged(levels, steps, lower_levels_frozen=True)
        case MatchedComputeControl():
            lowest = levels[:1]
            greedy = _staged(levels, steps, lower_levels_frozen=True)[:2]
            further = tuple(
                Stage(f"level 2 further, as long as {stage.name}", lowest, lowest, lowest, steps)
                for stage in _staged(levels, steps, lower_levels_frozen=True)[2:]
            )
            return greedy + further
        case _:
            assert_never(learner)


def _staged(levels: tuple[int, ...], steps: int, *, lower_levels_frozen: bool) -> tuple[Stage, ...]:
    stages: list[Stage] = []
    for position, level in enumerate(levels):
        below, upto = levels[:position], levels[: position + 1]
        trainable = (level,) if lower_levels_frozen else upto
        stages.append(Stage(f"level {level} wide", upto, below, trainable, steps))
        stages.append(Stage(f"level {level} distilled", upto, upto, trainable, steps, enters=level))
    return tuple(stages)
