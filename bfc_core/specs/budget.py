"""What one run may spend, and on how many fresh points it is judged."""

from typing import Annotated

from pydantic import Field

from bfc_core.specs.base import PositiveFloat, Spec
from bfc_core.specs.learners import Steps


class Budget(Spec):
    """Limits that hold for every learner of an experiment."""

    test_samples: Annotated[int, Field(ge=16, le=200_000, description="fresh points for every metric")] = (
        10_000
    )
    steps_per_stage: Annotated[
        Steps | None, Field(description="overrides the learners' own steps per stage")
    ] = None
    seconds: Annotated[
        PositiveFloat | None, Field(le=1e7, description="wall time of one pack; beyond it its runs fail")
    ] = None
    keep_predictor: Annotated[
        bool,
        Field(description="keep the trained network of every run as an artifact; other learners have none"),
    ] = False
