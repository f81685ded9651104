"""One run: one learner on one target at one n, dim and seed."""

from typing import Literal

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
