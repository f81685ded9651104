"""One question: a target, an input law, learners, and axes to vary."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from bfc_core.specs.agreement import check_agreement, check_dim, check_least_dim, check_samples
from bfc_core.specs.base import SPEC_VERSION, Dim, Samples, Seed, Spec
from bfc_core.specs.budget import Budget
from bfc_core.specs.inputs import GaussianInputs, InputSpec
from bfc_core.specs.learners import (
    AlgorithmOne,
    AnyLearner,
    CorrectionWindow,
    Layerwise,
    LearnerSpec,
    MatchedComputeControl,
    Recipe,
    check_search,
)
from bfc_core.specs.run import RunSpec
from bfc_core.specs.targets import (
    Alphas,
    HierarchicalQuadratic,
    KernelHardInstance,
    TargetSpec,
)

MAX_CELLS = 100_000

WEIGHTED = (HierarchicalQuadratic, KernelHardInstance)
"""Targets with one α a level, which the axis ``alphas`` may replace."""


def one_is_a_list(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """A number stands for the list of it alone."""
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


def _count_is_a_range(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= 1000:  # noqa: PLR2004 - stated in the message
            raise ValueError("seeds as a count must lie in 1..1000; or name the seeds in a list")
        return list(range(value))
    return value


def all_different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values of an axis, unless one is named twice."""
    if len(set(values)) != len(values):
        raise ValueError("an axis must not name a value twice")
    return values


class ExperimentSpec(Spec):
    """Target × input law × learners × axes (n, dim, alphas, seeds).

    ``n`` and ``dim`` take one number or a list; ``seeds`` a count (0, 1, …) or a list of seeds;
    ``alphas``, where given, is a list of α vectors that replaces the target's own.
    """

    spec_version: Literal[1] = SPEC_VERSION
    name: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
    target: TargetSpec
    inputs: InputSpec = GaussianInputs(kind="gaussian")
    learners: Annotated[tuple[LearnerSpec, ...], Field(min_length=1, max_length=50)]
    n: Annotated[
        tuple[Samples, ...],
        Field(min_length=1, max_length=200),
        BeforeValidator(one_is_a_list),
        AfterValidator(all_different),
    ]
    dim: Annotated[
        tuple[Dim, ...],
        Field(min_length=1, max_length=100),
        BeforeValidator(one_is_a_list),
        AfterValidator(all_different),
    ]
    seeds: Annotated[
        tuple[Seed, ...],
        Field(min_length=1, max_length=1000),
        BeforeValidator(_count_is_a_range),
        AfterValidator(all_different),
    ] = (0, 1, 2)
    alphas: Annotated[
        tuple[Alphas, ...] | None,
        Field(min_length=1, max_length=100),
        AfterValidator(lambda v: v and all_different(v)),
    ] = None
    budget: Budget = Budget()

    @field_validator("n")
    @classmethod
    def _there_are_so_many(cls, sizes: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if "target" in info.data:
            check_samples(max(sizes), info.data["target"])
        return sizes

    @field_validator("dim")
    @classmethod
    def _images_have_this_dim(cls, dims: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if {"target", "learners"} <= info.data.keys():
            for dim in dims:
                check_dim(dim, info.data["target"], info.data["learners"])
        return dims

    @model_validator(mode="after")
    def _axes_fit_the_target(self) -> Self:
        for dim in sorted(self.dim):
            check_least_dim(dim, self.target, self.inputs)
        check_agreement(self.target, self.inputs, self.learners)
        if self.alphas is not None:
            if not isinstance(self.target, WEIGHTED):
                raise ValueError(
                    "the alphas axis belongs to the targets hierarchical_quadratic and kernel_hard_instance"
                )
            if any(len(alphas) != len(self.target.alphas) for alphas in self.alphas):
                raise ValueError(f"every alphas entry needs {len(self.target.alphas)} values, one a level")
        for learner in self.learners:
            if isinstance(learner, AlgorithmOne) and learner.search is not None:
                check_search(learner.search, self.target)
        if len(set(self.learners)) != len(self.learners):
            raise ValueError("learners must not name the same learner twice")
        cells = self.cell_count()
        if cells > MAX_CELLS:
            raise ValueError(f"the grid has {cells} runs, the limit is {MAX_CELLS}")
        return self

    def all_learners(self) -> tuple[AnyLearner, ...]:
        """The learners asked for, each one that freezes levels followed by its matched-compute control.

        Those that the budget makes equal stand once: a cell is run, and counted, once.
        """
        asked = {self.budgeted(learner) for learner in self.learners}
        learners: dict[AnyLearner, AnyLearner] = {}
        for learner in self.learners:
            learners.setdefault(self.budgeted(learner), learner)
            if isinstance(learner, Layerwise | CorrectionWindow):
                control = control_of(learner)
                if self.budgeted(control) not in asked:
                    learners.setdefault(self.budgeted(control), control)
        return tuple(learners.values())

    def cell_count(self) -> int:
        """Number of runs, without making them."""
        alphas = 1 if self.alphas is None else len(self.alphas)
        return len(self.all_learners()) * len(self.n) * len(self.dim) * len(self.seeds) * alphas

    def runs(self) -> list[RunSpec]:
        """Every run of the grid, in the order target, learner, dim, n, seed."""
        # Budgeted once, so that the runs of a learner share one object, as those of a target do.
        learners = [self.budgeted(learner) for learner in self.all_learners()]
        return [
            RunSpec(
                target=target,
                inputs=self.inputs,
                learner=learner,
                n=n,
                dim=dim,
                seed=seed,
                budget=self.budget,
            )
            for target in self._targets()
            for learner in learners
            for dim in self.dim
            for n in self.n
            for seed in self.seeds
        ]

    def budgeted(self, learner: AnyLearner) -> AnyLearner:
        """The learner as it is run: with the budget's steps per stage, where it has any."""
        if self.budget.steps_per_stage is None or not isinstance(learner, Recipe):
            return learner
        return learner.model_copy(update={"steps_per_stage": self.budget.steps_per_stage})

    def _targets(self) -> tuple[TargetSpec, ...]:
        if self.alphas is None or not isinstance(self.target, WEIGHTED):
            return (self.target,)
        return tuple(self.target.model_copy(update={"alphas": alphas}) for alphas in self.alphas)


def control_of(learner: Layerwise | CorrectionWindow) -> MatchedComputeControl:
    """The matched-compute control of a learner that freezes: the same recipe on the lower level only."""
    recipe = {name: value for name, value in learner.model_dump().items() if name in Recipe.model_fields}
    return MatchedComputeControl(kind="matched_compute_control", **recipe)
