"""Bodies of /v1/reproductions."""

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from bfc_core.specs import ExperimentSpec
from service.experiments.schemas import ExperimentRead
from service.models import ExperimentStatus


class ExpectationRead(BaseModel):
    """A number that must lie between ``low`` and ``high``; null is open."""

    sentence: str
    low: float | None
    high: float | None


class ReproductionSummary(BaseModel):
    """A preset as the list shows it."""

    name: str
    shows: str
    source: str
    expectations: list[ExpectationRead]


class ReproductionRead(ReproductionSummary):
    """A preset with its experiments, by role."""

    experiments: dict[str, ExperimentSpec]


class ReproductionStarted(BaseModel):
    """The experiments that a preset started, by role."""

    name: str
    experiments: dict[str, ExperimentRead]
    check: str = Field(description="path of the verdict")


class FindingRead(ExpectationRead):
    """An expectation beside what was measured."""

    expected: str = Field(description="the range in words")
    found: float | None = Field(description="null where the runs do not have the number")
    holds: bool


class CheckedExperiment(BaseModel):
    """The experiment that a role was checked on."""

    id: UUID
    status: ExperimentStatus


class ReproductionCheck(BaseModel):
    """Expected beside measured, on the newest experiment of every role.

    ``verdict`` is unfinished while a run may still change.
    """

    name: str
    verdict: Literal["passed", "failed", "unfinished"]
    shows: str
    findings: list[FindingRead]
    experiments: dict[str, CheckedExperiment]
