"""What learners spent for the same question, and where that makes a comparison unfair. Pure.

Learners of one grid point have the same samples. What else they spend is a property of the methods: a comparison
does not equalise it, it says it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bfc_core.specs import RecursiveFeatureMachine, RunSpec
from bfc_core.statistics.comparison import Summary

UNEQUAL: Mapping[str, float] = {"steps": 1.1, "flops": 1.1, "trials": 1.1, "seconds": 2.0}
"""Factor between two medians from which a budget counts as unequal; seconds also tell of neighbours."""

_TRIALS = ("candidates_tried", "guesses", "networks_tried")


@dataclass(frozen=True)
class Spent:
    """Of one learner at one grid point, over its seeds; empty where it is not known."""

    steps: Summary
    flops: Summary
    seconds: Summary
    trials: Summary


def trials_of(spec: RunSpec, selection: Mapping[str, object]) -> int:
    """Settings that a run tried before it chose; 1 where its learner leaves no choice."""
    if isinstance(spec.learner, RecursiveFeatureMachine):
        return len(spec.learner.bandwidths) * len(spec.learner.ridges)
    found = (selection.get(name) for name in _TRIALS)
    return next((tried for tried in found if isinstance(tried, int)), 1)


def unequal_budgets(mine: Spent, other: Spent) -> tuple[str, ...]:
    """Names of the budgets that differ; what is not known of either counts as equal."""
    return tuple(
        name
        for name, factor in UNEQUAL.items()
        if _differ(getattr(mine, name).median, getattr(other, name).median, factor)
    )


def _differ(one: float | None, other: float | None, factor: float) -> bool:
    if one is None or other is None:
        return False
    return max(one, other) > factor * min(one, other)
