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
    CorrectionWindow,
    HierarchicalLearner,
    Hierarchy,
    Joint,
    Layerwise,
    MatchedComputeControl,
    Recipe,
    StagedLearner,
)

SAMPLES_A_PARAMETER = 4
"""With fewer rows the minimum of the training objective says little about the target: nothing is refined."""

MOST_PARAMETERS = 1500
"""Of which a refinement can solve for the normal equations in seconds."""


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
    tied: tuple[int, ...] = ()
    """Levels whose K stands for W."""
    refines: bool = False
    """Whether the steps are Gauss–Newton's (:mod:`bfc_core.training.refinement`)."""
    resets: tuple[int, ...] = ()
    """Levels that go back to their initial draw as the stage begins."""

    @property
    def all_tied(self) -> bool:
        """Whether no wide W is left in the output."""
        return self.tied == self.active

    def norm_weight(self, recipe: Recipe) -> float:
        """λ₆: that of the wide stages while a level is wide and no other is distilled beside it."""
        return recipe.norm_weight if self.distilled == self.active else recipe.wide_norm_weight


def can_be_refined(parameters: int, rows: int) -> bool:
    """Whether there are enough rows for the parameters, and few enough parameters to solve for."""
    return parameters <= MOST_PARAMETERS and rows >= SAMPLES_A_PARAMETER * parameters


def refinement_bytes(rows: int, dim: int) -> int:
    """What a member's refinement makes of its rows in float64: a copy with labels and weights, and parts of it."""
    return 3 * 8 * rows * (dim + 3)


def stages_of(learner: HierarchicalLearner, hierarchy: Hierarchy) -> tuple[Stage, ...]:
    """The schedule of a learner: 2 · levels · steps_per_stage optimiser steps, and refinement at the end of it."""
    stages = _first_order_stages(learner, hierarchy)
    return (*stages, _refined(stages[-1], learner)) if learner.refinement_steps else stages


def _first_order_stages(learner: HierarchicalLearner, hierarchy: Hierarchy) -> tuple[Stage, ...]:
    levels = hierarchy.levels
    match learner:
        case Joint():
            return (Stage("joint", levels, levels, levels, 2 * len(levels) * learner.steps_per_stage),)
        case AlgorithmOne():
            return _staged(learner, levels, window=None)
        case CorrectionWindow():
            return _staged(learner, levels, window=learner.window)
        case Layerwise():
            return _staged(learner, levels, window=0, head_levels=learner.head_levels)
        case MatchedComputeControl():
            lowest = levels[:1]
            greedy = _staged(learner, levels, window=0)
            return greedy[:2] + tuple(
                Stage(
                    f"level 2 further, as long as {stage.name}",
                    active=lowest,
                    distilled=lowest,
                    trainable=lowest,
                    steps=stage.steps,
                    tied=lowest if learner.tie == "exact" else (),
                )
                for stage in greedy[2:]
            )
        case _:
            assert_never(learner)


def _refined(last: Stage, learner: HierarchicalLearner) -> Stage:
    """What the last stage moved, moved once more with every level tied.

    The top level's K feeds nothing, so where W was not tied to it yet it is distilled (again) as it takes over.
    """
    return Stage(
        "refined",
        active=last.active,
        distilled=last.active,
        trainable=last.trainable,
        steps=learner.refinement_steps,
        enters=None if last.all_tied else last.active[-1],
        tied=last.active,
        refines=True,
    )


def _staged(
    learner: StagedLearner, levels: tuple[int, ...], *, window: int | None, head_levels: int = 0
) -> tuple[Stage, ...]:
    """Two stages a level: half as many steps wide, and what that saves goes to the last stage of all.

    A wide W can also carry what the levels below have not learnt yet, and the longer it may, the farther it
    strays from its own level; the last stage is where everything converges together. ``window`` levels below
    the newest stay trainable. With ``head_levels`` a level's second stage trains it under that many levels
    above, which then go back to their initial draw.
    """
    steps = learner.steps_per_stage
    wide = max(1, steps // 2)
    exact = learner.tie == "exact"
    stages: list[Stage] = []
    for position, level in enumerate(levels):
        below, upto = levels[:position], levels[: position + 1]
        trainable = upto if window is None else upto[-(window + 1) :]
        head = levels[position + 1 : position + 1 + head_levels]
        under = f" under {len(head)} more" if head else ""
        saved = len(levels) * (steps - wide) if upto == levels else 0
        stages.append(
            Stage(
                f"level {level} wide",
                active=upto,
                distilled=below,
                trainable=trainable,
                steps=wide,
                resets=levels[position : position + head_levels] if position else (),
                tied=below if exact else (),
            )
        )
        stages.append(
            Stage(
                f"level {level} distilled{under}",
                active=upto + head,
                distilled=upto + head,
                trainable=trainable + head,
                steps=steps + saved,
                enters=level,
                tied=upto if exact else (),
            )
        )
    return tuple(stages)
