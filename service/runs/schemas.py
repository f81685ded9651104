"""Bodies of the run endpoints."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field

from bfc_core.specs import Metrics
from bfc_core.specs.learners import LearnerSpec
from bfc_core.specs.targets import TargetSpec
from service.models import RunStatus


class RunRead(BaseModel):
    """One run: what was asked, where it stands, and its report where it has one."""

    id: UUID
    experiment_id: UUID
    status: RunStatus
    target: TargetSpec
    learner: LearnerSpec
    label: str
    n: int
    dim: int
    seed: int
    metrics: Metrics | None
    seconds: float | None
    steps: int | None
    flops: int | None = Field(
        description="floating-point operations of fit, tuning and one prediction of the test samples, as if it had run "
        "alone; a multiply-add counts 2"
    )
    peak_memory_bytes: int | None = Field(
        description="most memory that the process of its pack took, beyond what it held before; on a GPU there"
    )
    pack_members: int | None = Field(description="runs that shared that process and its peak")
    selection: dict[str, float | int | str | bool]
    warnings: list[str]
    message: str | None
    progress: float = Field(ge=0, le=1)
    attempts: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    measurements_deleted_at: datetime | None = Field(
        description="since when its measurements are gone (BFC_MEASUREMENT_RETENTION); the metrics stay"
    )


class MeasurementRead(BaseModel):
    """One number at one step."""

    id: int
    name: str
    step: int
    stage: str | None
    level: int | None
    value: float | None
