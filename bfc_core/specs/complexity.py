"""A question for n* itself: how many samples does each learner need, bracketed instead of swept."""

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from bfc_core.specs.base import SPEC_VERSION, Dim, Samples, Spec
from bfc_core.specs.budget import Budget
from bfc_core.specs.experiment import ExperimentSpec, all_different, one_is_a_list
from bfc_core.specs.inputs import GaussianInputs, InputSpec
from bfc_core.specs.learners import LearnerSpec
from bfc_core.specs.targets import TargetSpec

MOST_SEEDS = 1000


class ComplexitySpec(Spec):
    """n*(ε, δ) of every learner and dim, found by bisection on a geometric grid of n.

    The grid is n_min · 2^(k / points_per_doubling) up to n_max. A size that is asked for is run with the first few of
    its ``seeds``, and with all of them where these do not agree or the answer rests on it. Where ``widest_interval`` is
    given, the ends of the bracket get more seeds, up to ``max_seeds``, until the 95 % interval of n* spans no more than
    so many doublings, and at least 1/δ of them.
    """

    spec_version: Literal[1] = SPEC_VERSION
    name: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
    target: TargetSpec
    inputs: InputSpec = GaussianInputs(kind="gaussian")
    learners: Annotated[tuple[LearnerSpec, ...], Field(min_length=1, max_length=20)]
    dim: Annotated[
        tuple[Dim, ...],
        BeforeValidator(one_is_a_list),
        Field(min_length=1, max_length=20),
        AfterValidator(all_different),
    ]
    eps: Annotated[float, Field(gt=0, le=1e6, description="error to be reached")] = 0.1
    delta: Annotated[float, Field(gt=0, lt=1, description="share of seeds that may miss it")] = 0.2
    metric: Literal["nmse", "error"] = "nmse"
    n_min: Samples = 64
    n_max: Annotated[Samples, Field(validate_default=True)] = 4096
    points_per_doubling: Annotated[int, Field(ge=1, le=8)] = 1
    seeds: Annotated[int, Field(ge=1, le=MOST_SEEDS, description="seeds of a size, the first few first")] = 5
    max_seeds: Annotated[
        int | None, Field(ge=1, le=MOST_SEEDS, description="seeds at the bracket, at most; null is ``seeds``")
    ] = None
    widest_interval: Annotated[
        float | None, Field(gt=0, le=20, description="doublings of n that the interval of n* may span")
    ] = None
    max_runs: Annotated[
        int, Field(ge=1, le=100_000, description="beyond it no further size is asked for")
    ] = 10_000
    budget: Budget = Budget()

    @field_validator("n_max")
    @classmethod
    def _there_is_a_grid(cls, n_max: int, info: ValidationInfo) -> int:
        if info.data.get("n_min", 0) >= n_max:
            raise ValueError("n_min must be smaller than n_max")
        return n_max

    @field_validator("max_seeds")
    @classmethod
    def _seeds_are_added(cls, max_seeds: int | None, info: ValidationInfo) -> int | None:
        if max_seeds is not None and max_seeds < info.data.get("seeds", 0):
            raise ValueError("max_seeds must not be smaller than seeds")
        return max_seeds

    @field_validator("widest_interval")
    @classmethod
    def _more_seeds_are_allowed(cls, widest: float | None, info: ValidationInfo) -> float | None:
        known = info.data
        if widest is None or not {"seeds", "max_seeds"} <= known.keys():
            return widest
        if known["max_seeds"] in {None, known["seeds"]}:
            raise ValueError("widest_interval needs max_seeds above seeds: only more seeds make it narrower")
        return widest

    @model_validator(mode="after")
    def _is_an_experiment(self) -> Self:
        try:
            self.experiment(range(len(self.learners)), self.dim, (self.n_max,), self.seeds)
        except ValidationError as refusal:
            raise ValueError("; ".join(error["msg"] for error in refusal.errors())) from refusal
        return self

    @property
    def most_seeds(self) -> int:
        """Seeds at one size, at most."""
        return self.seeds if self.max_seeds is None else self.max_seeds

    def grid(self) -> tuple[int, ...]:
        """Sizes that may be asked for, ascending; the last is ``n_max``."""
        sizes: list[int] = []
        while (n := round(self.n_min * 2 ** (len(sizes) / self.points_per_doubling))) < self.n_max:
            sizes.append(n)
        return tuple(dict.fromkeys([*sizes, self.n_max]))

    def full_grid_runs(self, seeds: int) -> int:
        """Runs of every learner and dim at every size with ``seeds`` seeds: more than one experiment may have."""
        one_size = self.experiment(range(len(self.learners)), self.dim, (self.n_max,), 1)
        return one_size.cell_count() * len(self.grid()) * seeds

    def experiment(
        self, learners: range | tuple[int, ...], dim: tuple[int, ...], n: tuple[int, ...], seeds: int
    ) -> ExperimentSpec:
        """The experiment that runs some learners (by index) at some sizes with seeds 0 … ``seeds`` − 1."""
        return ExperimentSpec(
            name=self.name,
            target=self.target,
            inputs=self.inputs,
            learners=tuple(self.learners[index] for index in learners),
            n=n,
            dim=dim,
            seeds=tuple(range(seeds)),
            budget=self.budget,
        )
