"""What the server answers, as frozen models. Fields a newer server adds are kept, not refused."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """Base of every answer."""

    model_config = ConfigDict(frozen=True, extra="allow")


class ExperimentStatus(StrEnum):
    """Where an experiment stands."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    PARTIALLY_SUCCEEDED = "partially_succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """No run of the experiment will change again."""
        return self not in {self.QUEUED, self.RUNNING, self.PAUSED, self.CANCELLING}


class RunCounts(Answer):
    """Runs by status."""

    queued: int = 0
    running: int = 0
    cancelling: int = 0
    succeeded: int = 0
    diverged: int = 0
    failed: int = 0
    cancelled: int = 0
    total: int = 0

    @property
    def finished(self) -> int:
        """Runs that will not change again."""
        return self.succeeded + self.diverged + self.failed + self.cancelled

    def in_words(self) -> str:
        """The counts that are not zero: "8 succeeded, 1 failed"."""
        names = ("running", "cancelling", "succeeded", "diverged", "failed", "cancelled", "queued")
        return ", ".join(f"{getattr(self, name)} {name}" for name in names if getattr(self, name)) or "none"


class ExperimentState(Answer):
    """An experiment at one moment; ``spec`` is absent in lists."""

    id: str
    name: str
    status: ExperimentStatus
    spec_hash: str
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    runs: RunCounts
    reused_runs: int = 0
    saved_seconds: float = 0.0
    progress: float = 0.0
    links: dict[str, str] = Field(default_factory=dict)
    spec: dict[str, Any] | None = None


class FlopsCalibration(Answer):
    """By what an estimate was corrected, and how far finished runs were from it."""

    factor: float
    runs: int
    median_error: float


class Calibration(FlopsCalibration):
    """The same of the seconds; ``flops`` is null where too few runs counted them."""

    flops: FlopsCalibration | None = None


class LearnerCost(Answer):
    """What one learner of a plan is expected to cost."""

    label: str
    kind: str
    cells: int
    reused_cells: int = 0
    estimated_seconds: float
    estimated_memory_bytes: int
    estimated_flops: int | None = None
    calibration: Calibration | None = None


class Plan(Answer):
    """What an experiment would be; nothing of it is stored."""

    spec_hash: str
    spec: dict[str, Any]
    cells: int
    reused_cells: int = 0
    saved_seconds: float = 0.0
    packs: int
    estimated_seconds: float
    estimated_memory_bytes: int
    estimated_flops: int | None = None
    learners: tuple[LearnerCost, ...] = ()
    warnings: tuple[str, ...] = ()


class RunMetrics(Answer):
    """Numbers on fresh samples; null where they were not finite. Keys are the target's levels, or its degrees."""

    nmse: float | None = None
    variance_explained: dict[int, float | None] = Field(default_factory=dict)
    degree_coefficient: dict[int, float | None] = Field(default_factory=dict)
    degree_variance_explained: dict[int, float | None] = Field(default_factory=dict)
    feature_error: dict[int, float | None] = Field(default_factory=dict)
    feature_error_scale_free: dict[int, float | None] = Field(default_factory=dict)
    form_error: dict[int, float | None] = Field(default_factory=dict)


class Run(Answer):
    """One learner on one target at one n, dim and seed."""

    id: str
    experiment_id: str
    status: str
    label: str
    target: dict[str, Any]
    learner: dict[str, Any]
    n: int
    dim: int
    seed: int
    metrics: RunMetrics | None = None
    seconds: float | None = None
    steps: int | None = None
    flops: int | None = None
    peak_memory_bytes: int | None = None
    pack_members: int | None = None
    warnings: tuple[str, ...] = ()
    message: str | None = None
    progress: float | None = None
    measurements_deleted_at: datetime | None = None


class Artifact(Answer):
    """A file that a run left; ``sha256`` is over its bytes, in hex."""

    run_id: UUID
    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*\.[a-z]+$", max_length=100)
    media_type: str
    size_bytes: int
    sha256: str
    created_at: datetime
    expires_at: datetime


class Webhook(Answer):
    """An address that is called when an experiment has ended; ``error`` is why the last call did not succeed."""

    id: UUID
    url: str
    status: str
    attempts: int
    error: str | None = None
    created_at: datetime
    delivered_at: datetime | None = None


class CreatedWebhook(Webhook):
    """With the key that the calls are signed with, which the server shows this once."""

    secret: str


class Summary(Answer):
    """One number over the seeds; ``method`` names the interval from ``low`` to ``high``."""

    median: float | None = None
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: int = 0
    method: str = ""


class Cell(Answer):
    """One learner at one n, dim and alphas, over its seeds."""

    label: str
    learner: dict[str, Any]
    n: int
    dim: int
    alphas: tuple[float, ...] | None = None
    succeeded: int = 0
    diverged: int = 0
    failed: int = 0
    nmse: Summary | None = None
    feature_error: dict[int, Summary | None] = Field(default_factory=dict)
    variance_explained: dict[int, Summary | None] = Field(default_factory=dict)
    seconds: Summary | None = None
    steps: Summary | None = None
    flops: Summary | None = None
    trials: Summary | None = None


class Ratio(Answer):
    """One learner's metric over another's, paired by seed."""

    label: str
    against: str
    n: int
    dim: int
    alphas: tuple[float, ...] | None = None
    metric: str
    level: int | None = None
    median_ratio: float | None = None
    low: float | None = None
    high: float | None = None
    pairs: int = 0
    unequal_budgets: tuple[str, ...] = ()


class BackwardGain(Answer):
    """Feature error of the matched-compute control over that of a learner that corrects, paired by seed."""

    label: str = "matched_compute_control"
    against: str = "algorithm_1"
    n: int
    dim: int
    alphas: tuple[float, ...] | None = None
    level: int
    median: float | None = None
    low: float | None = None
    high: float | None = None
    pairs: int = 0


class Comparison(Answer):
    """The statistics of an experiment: cells, paired ratios, backward gain."""

    experiment_id: str
    status: ExperimentStatus
    baseline: str | None = None
    cells: tuple[Cell, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    backward_gain: tuple[BackwardGain, ...] = ()
    warnings: tuple[str, ...] = ()

    def ratio(
        self, label: str, against: str, metric: str, level: int | None = None, *, of: Cell | None = None
    ) -> Ratio | None:
        """The ratio of two labels, at the cell ``of`` where the experiment has several."""
        for ratio in self.ratios:
            names_fit = (ratio.label, ratio.against, ratio.metric) == (label, against, metric)
            place_fits = of is None or (ratio.n, ratio.dim, ratio.alphas) == (of.n, of.dim, of.alphas)
            if names_fit and ratio.level == level and place_fits:
                return ratio
        return None


class CurvePoint(Answer):
    """One n of a learning curve."""

    n: int
    error: Summary
    diverged: int = 0


class Curve(Answer):
    """Error over n of one learner at one dim and alphas."""

    label: str
    learner: dict[str, Any]
    dim: int
    alphas: tuple[float, ...] | None = None
    points: tuple[CurvePoint, ...] = ()
    unfinished: int = 0


class Crossing(Answer):
    """n* with its interval; null and ``censored`` where it lies beyond the grid."""

    value: float | None = None
    censored: str | None = None
    low: float | None = None
    high: float | None = None
    text: str = ""


class ComplexityCell(Answer):
    """n*(eps, delta) of one learner at one dim and alphas."""

    label: str
    learner: dict[str, Any]
    dim: int
    alphas: tuple[float, ...] | None = None
    first: Crossing
    last: Crossing
    is_monotone: bool = True
    smallest_n: int
    largest_n: int
    seeds: int = 0


class Theory(Answer):
    """What is known of a class of learners."""

    learners: str
    statement: str
    exponent: float | None = None
    source: str = ""


class ComplexityFit(Answer):
    """How n* of one learner grows with dim; ``said`` tells why where there is no exponent."""

    label: str
    learner: dict[str, Any]
    alphas: tuple[float, ...] | None = None
    exponent: float | None = None
    low: float | None = None
    high: float | None = None
    preferred: str | None = None
    sizes: int = 0
    said: str = ""
    theory: Theory | None = None


class Complexity(Answer):
    """n*(eps, delta) of every learner and dim, and its growth."""

    experiment_id: str
    status: ExperimentStatus
    metric: str = "nmse"
    eps: float
    delta: float
    cells: tuple[ComplexityCell, ...] = ()
    fits: tuple[ComplexityFit, ...] = ()
    warnings: tuple[str, ...] = ()


class CatalogueEntry(Answer):
    """A learner or target the server knows, with the schema of its spec."""

    kind: str
    title: str
    description: str = ""
    json_schema: dict[str, Any] = Field(default_factory=dict)


class Event(Answer):
    """One entry of the event stream; ``id`` grows."""

    id: int | None = None
    name: str
    data: dict[str, Any] = Field(default_factory=dict)
