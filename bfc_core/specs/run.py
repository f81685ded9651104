"""One run: one learner on one target at one n, dim and seed."""

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import model_validator

from bfc_core.specs.base import SPEC_VERSION, Dim, Samples, Seed, Spec
from bfc_core.specs.budget import Budget
from bfc_core.specs.inputs import AnyInputs, CubeInputs, GaussianInputs, InputSpec
from bfc_core.specs.learners import AnyLearner, LearnerSpec, Recipe
from bfc_core.specs.plain_targets import PlainTarget
from bfc_core.specs.targets import AnyTarget, TargetSpec


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

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        check_agreement(self.target, self.inputs, (self.learner,))
        return self


def check_agreement(target: AnyTarget, inputs: AnyInputs, learners: Iterable[AnyLearner]) -> None:
    """Refuse what cannot be run together.

    Raises:
        ValueError: a network with levels on a target without them, or a target that vanishes under its input law.
    """
    if isinstance(inputs, CubeInputs) and not isinstance(target, PlainTarget):
        raise ValueError(  # noqa: TRY004 - a value of the spec, not of a call
            f"on the cube x² = 1, so the levels of {target.kind} vanish: choose Gaussian inputs"
        )
    if not isinstance(target, PlainTarget):
        return
    for learner in learners:
        if isinstance(learner, Recipe):
            raise ValueError(  # noqa: TRY004
                f"{learner.kind} is told the levels of a hierarchy, and the target {target.kind} has none"
            )
