"""One run: one learner on one target at one n, dim and seed."""

from typing import Literal, Self

from pydantic import ValidationInfo, field_validator, model_validator

from bfc_core.specs.agreement import check_agreement, check_dim, check_least_dim, check_samples
from bfc_core.specs.base import SPEC_VERSION, Dim, Samples, Seed, Spec
from bfc_core.specs.budget import Budget
from bfc_core.specs.inputs import GaussianInputs, InputSpec
from bfc_core.specs.learners import LearnerSpec
from bfc_core.specs.targets import TargetSpec


class RunSpec(Spec):
    """The unit that is trained, measured and reported."""

    spec_version: Literal[1] = SPEC_VERSION
    target: TargetSpec
    inputs: InputSpec = GaussianInputs(kind="gaussian")
    learner: LearnerSpec
    n: Samples
    dim: Dim
    seed: Seed
    budget: Budget = Budget()

    @field_validator("n")
    @classmethod
    def _there_are_so_many(cls, n: int, info: ValidationInfo) -> int:
        if "target" in info.data:
            check_samples(n, info.data["target"])
        return n

    @field_validator("dim")
    @classmethod
    def _images_have_this_dim(cls, dim: int, info: ValidationInfo) -> int:
        if {"target", "learner"} <= info.data.keys():
            check_dim(dim, info.data["target"], (info.data["learner"],))
        return dim

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        check_least_dim(self.dim, self.target, self.inputs)
        check_agreement(self.target, self.inputs, (self.learner,))
        return self
