"""Levels that add so little to the labels that nothing of them can be learnt, told before anything is trained.

Entries of S*_ℓ have mean square 1, so what level ℓ adds to a label is α_ℓ k_ℓ in the mean; its *share* here is that
over the sum of all levels. Three things can stand in the way:

- *share*: below 1e-5 training does not find the level beside the others;
- *noise*: n samples average label noise of σ standard deviations down to about σ √(p/n), where p are the parameters
  of the level's K;
- *λ₆*: where the lowest level's α² is small beside it, the penalty on the norms outweighs the data: the unit of the
  labels is too small for the recipe.

Thresholds are orders of magnitude, for warnings: nothing is refused for them. A level of α = 0 is a null twin and
faint on purpose. Measured in docs/records/2026-11-28-faint-levels.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Literal

from bfc_core.specs import (
    LOWEST_LEVEL,
    AlgorithmOne,
    Hierarchy,
    LabelledTarget,
    Recipe,
    RunSpec,
    hierarchy_of,
)

LEAST_SHARE = 1e-5
"""Share below which a level was missed, in float32 and in float64 alike."""

OUTWEIGHED = 1 / 300
"""α_ℓ² over the λ₆ of the wide stages from which downwards a level is missed: α_2 = 10⁻³ with the default."""

Reason = Literal["share", "noise", "norms"]


@dataclass(frozen=True)
class FaintLevel:
    """A level of a run's target that cannot be learnt, and why."""

    run: RunSpec
    level: int
    alpha: float
    share: float
    reason: Reason

    def __str__(self) -> str:
        """A sentence with a way out."""
        learner = self.run.learner
        assert isinstance(learner, Recipe)
        adds = f"level {self.level} (alpha {self.alpha:g}) adds about {self.share:.0e} of the labels"
        match self.reason:
            case "share":
                return f"{adds}, too little for training to find: raise its alpha"
            case "noise":
                assert isinstance(self.run.target, LabelledTarget)
                return (
                    f"{adds}, less than {self.run.n} samples can tell from label noise of "
                    f"{self.run.target.label_noise:g}: raise its alpha or n, or lower label_noise"
                )
            case _:
                return (
                    f"level {self.level} (alpha {self.alpha:g}) is outweighed by the penalty on the norms "
                    f"(wide_norm_weight {learner.wide_norm_weight:g}): multiply all alphas by one factor, which "
                    "only changes the unit of the labels, or the norm weights by its square"
                )


def faint_levels(run: RunSpec) -> list[FaintLevel]:
    """The levels of which a hierarchical learner will learn nothing, the strongest reason of each."""
    if not isinstance(run.learner, Recipe):
        return []
    told = hierarchy_of(run.target)
    total = sum(alpha * told.widths[level] for level, alpha in told.alphas.items())
    found = []
    for level, alpha in told.alphas.items():
        if alpha == 0 or (level > LOWEST_LEVEL and _is_twin(run)):
            continue
        share = alpha * told.widths[level] / total
        reason = next(_reasons(run, run.learner, told, level, share), None)
        if reason is not None:
            found.append(FaintLevel(run, level, alpha, share, reason))
    return found


def in_words(runs: Iterable[RunSpec]) -> list[str]:
    """One sentence for every level and reason among the runs of an experiment, for the largest alpha and n of it."""
    found: defaultdict[tuple[int, Reason], list[FaintLevel]] = defaultdict(list)
    for run in runs:
        for faint in faint_levels(run):
            found[faint.level, faint.reason].append(faint)
    return [str(max(faints, key=lambda faint: (faint.alpha, faint.run.n))) for faints in found.values()]


def _reasons(run: RunSpec, learner: Recipe, told: Hierarchy, level: int, share: float) -> Iterator[Reason]:
    if share < LEAST_SHARE:
        yield "share"
    target = run.target
    if not isinstance(target, LabelledTarget) or target.task == "classification":
        return
    if share < target.label_noise * sqrt(_parameters(told, level, run.dim) / run.n):
        yield "noise"
    is_practical = not isinstance(learner, AlgorithmOne) or learner.mode == "practical"
    if (
        level == LOWEST_LEVEL
        and is_practical
        and told.alphas[level] ** 2 <= 1.001 * OUTWEIGHED * learner.wide_norm_weight
    ):
        yield "norms"


def _parameters(told: Hierarchy, level: int, dim: int) -> int:
    """Entries of K_ℓ."""
    read = sum(
        dim if source < LOWEST_LEVEL else told.widths[source] * (told.widths[source] + 1) // 2
        for source in told.connections[level]
    )
    return told.widths[level] * read


def _is_twin(run: RunSpec) -> bool:
    return isinstance(run.target, LabelledTarget) and run.target.null_twin is not None
