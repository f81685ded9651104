"""Bodies of the experiment endpoints."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field

from bfc_core.specs import ExperimentSpec
from bfc_core.specs.learners import LearnerSpec
from service.models import Experiment, ExperimentStatus


class RunCounts(BaseModel):
    """Runs of an experiment by status."""

    queued: int = 0
    running: int = 0
    cancelling: int = 0
    succeeded: int = 0
    diverged: int = 0
    failed: int = 0
    cancelled: int = 0
    total: int = 0


class ExperimentSummary(BaseModel):
    """An experiment as a list shows it."""

    id: UUID
    name: str
    status: ExperimentStatus
    spec_hash: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    runs: RunCounts
    reused_runs: int = Field(description="runs of earlier experiments that answer cells of this one")
    progress: float = Field(ge=0, le=1, description="share of the work that is done, running packs included")
    links: dict[str, str]


class ExperimentRead(ExperimentSummary):
    """An experiment with the spec it was accepted with, every default resolved."""

    saved_seconds: float = Field(description="what the reused runs took when they were computed")
    spec: ExperimentSpec


class FlopsCalibrationRead(BaseModel):
    """What finished runs of a kind of learner counted over what plans expected."""

    factor: float = Field(description="by which the estimate was multiplied: a median")
    runs: int = Field(description="of the runs that were looked at, those that counted")
    median_error: float = Field(description="as that of the seconds")


class CalibrationRead(BaseModel):
    """What finished runs of a kind of learner say about its estimates on this deployment."""

    factor: float = Field(
        description="by which the estimate was multiplied: median of seconds taken over estimated"
    )
    runs: int = Field(
        description="newest succeeded runs of this kind that were looked at; networks of one pack share its "
        "seconds and count as one"
    )
    flops: FlopsCalibrationRead | None = Field(description="null while fewer than five runs have counted")
    median_error: float = Field(
        description="e: half of those runs took between 1 / (1 + e) and 1 + e times the corrected estimate"
    )


class LearnerPlanRead(BaseModel):
    """What one learner will cost on one core."""

    label: str
    kind: str
    cells: int
    reused_cells: int
    estimated_seconds: float
    estimated_memory_bytes: int
    estimated_flops: int = Field(
        description="floating-point operations, corrected where learners are calibrated; the same on every machine"
    )
    calibration: CalibrationRead | None = Field(
        description="null while fewer than five runs of this kind have succeeded: the estimate is as it was counted"
    )


class PlanRead(BaseModel):
    """The answer to a dry run; nothing is stored."""

    spec_hash: str
    spec: ExperimentSpec
    cells: int
    reused_cells: int = Field(description="cells that a finished run answers already; they are not run again")
    saved_seconds: float = Field(description="what the reused cells took when they were computed")
    packs: int
    estimated_seconds: float = Field(
        description="on one core, corrected where learners are calibrated; packs run beside each other"
    )
    estimated_memory_bytes: int = Field(description="of the largest pack")
    estimated_flops: int
    learners: list[LearnerPlanRead]
    warnings: list[str]


class SummaryRead(BaseModel):
    """One number over the seeds of a cell; ``method`` names the interval."""

    median: float | None
    mean: float | None
    low: float | None
    high: float | None
    seeds: int
    method: str


class CellRead(BaseModel):
    """One learner at one grid point."""

    label: str
    learner: LearnerSpec
    n: int
    dim: int
    alphas: list[float] | None
    seeds: int
    succeeded: int
    diverged: int
    failed: int
    nmse: SummaryRead
    feature_error: dict[int, SummaryRead]
    feature_error_scale_free: dict[int, SummaryRead]
    variance_explained: dict[int, SummaryRead]
    seconds: SummaryRead
    steps: SummaryRead = Field(description="optimiser steps")
    flops: SummaryRead = Field(
        description="floating-point operations, each run as if alone; null where runs were reported before they counted"
    )
    trials: SummaryRead = Field(description="settings tried before one was chosen")


class RatioRead(BaseModel):
    """One learner over the baseline, paired by seed."""

    label: str
    against: str
    n: int
    dim: int
    alphas: list[float] | None
    metric: str
    level: int | None
    median_ratio: float | None
    low: float | None
    high: float | None
    method: str
    pairs: int
    p_value: float | None
    p_value_holm: float | None
    unequal_budgets: list[str] = Field(
        description="what the two learners spent unequally: steps, flops or trials by more than a tenth, seconds by "
        "more than twice; samples are always equal"
    )


class BackwardGainRead(BaseModel):
    """Feature error of the matched-compute control over that of a learner that corrects backward."""

    label: str
    against: str
    n: int
    dim: int
    alphas: list[float] | None
    level: int
    median: float | None
    low: float | None
    high: float | None
    pairs: int


class ComparisonRead(BaseModel):
    """What the finished runs say about the learners."""

    experiment_id: UUID
    status: ExperimentStatus
    baseline: str | None
    cells: list[CellRead]
    ratios: list[RatioRead]
    backward_gain: list[BackwardGainRead]
    warnings: list[str]


class ManifestRead(BaseModel):
    """What is needed to repeat an experiment."""

    experiment_id: UUID
    spec: ExperimentSpec
    spec_hash: str
    code_version: str
    runs: dict[str, str] = Field(description="cell hash by run id")
    results: dict[str, str] = Field(description="SHA-256 over the metrics by run id")


def links_of(experiment: Experiment) -> dict[str, str]:
    """Paths of what belongs to an experiment."""
    base = f"/v1/experiments/{experiment.id}"
    return {
        "self": base,
        "runs": f"{base}/runs",
        "events": f"{base}/events",
        "comparison": f"{base}/comparison",
        "curves": f"{base}/curves",
        "complexity": f"{base}/complexity",
        "results": f"{base}/results.csv",
        "chart": f"{base}/charts/comparison.svg",
        "manifest": f"{base}/manifest",
    }
