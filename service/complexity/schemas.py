"""Bodies of the curve and complexity endpoints. Infinity is never written: a censored n* is null and says so."""

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from bfc_core.specs.learners import LearnerSpec
from bfc_core.statistics.curves import CurveMetric
from service.experiments.schemas import SummaryRead
from service.models import ExperimentStatus


class CurvePointRead(BaseModel):
    """One n of a learning curve."""

    n: int
    error: SummaryRead = Field(description="over the seeds that did not diverge")
    diverged: int


class CurveRead(BaseModel):
    """Error over n of one learner at one dim and alphas."""

    label: str
    learner: LearnerSpec
    dim: int
    alphas: list[float] | None
    points: list[CurvePointRead]
    unfinished: int = Field(description="runs without a result: failed, cancelled or not finished")


class CurvesRead(BaseModel):
    """Every learning curve of an experiment."""

    experiment_id: UUID
    status: ExperimentStatus
    metric: CurveMetric
    curves: list[CurveRead]


class CrossingRead(BaseModel):
    """Where a curve meets eps; ``censored`` says beyond which end of the grid where ``value`` is null."""

    value: float | None
    censored: Literal["above", "below"] | None
    low: float | None = Field(description="lower end of the 95 % interval; null is open")
    high: float | None = Field(description="upper end of the 95 % interval; null is open")
    text: str = Field(description='as a table shows it: "812.3", "> 4000", "≤ 64"')


class ComplexityCellRead(BaseModel):
    """n*(eps, delta) of one learner at one dim and alphas."""

    label: str
    learner: LearnerSpec
    dim: int
    alphas: list[float] | None
    first: CrossingRead
    last: CrossingRead
    is_monotone: bool
    smallest_n: int
    largest_n: int
    seeds: int = Field(description="fewest at the sizes between which the curve first meets ε")


class TheoryRead(BaseModel):
    """What is known of a class of learners; ``exponent`` is that of dim."""

    learners: str
    statement: str
    exponent: float | None
    source: str


class ComplexityFitRead(BaseModel):
    """How n* of one learner grows with dim; ``exponent`` is null where ``said`` tells why."""

    label: str
    learner: LearnerSpec
    alphas: list[float] | None
    exponent: float | None
    low: float | None
    high: float | None
    rate: float | None = Field(description="c of n* ∝ exp(c·dim)")
    aic_difference: float | None = Field(description="AIC(exponential) − AIC(polynomial)")
    preferred: Literal["polynomial", "exponential", "undecided"] | None
    sizes: int
    said: str
    theory: TheoryRead | None


class ComplexityRead(BaseModel):
    """n*(eps, delta) of every learner and dim, and its growth."""

    experiment_id: UUID
    status: ExperimentStatus
    metric: CurveMetric
    eps: float
    delta: float
    cells: list[ComplexityCellRead]
    fits: list[ComplexityFitRead]
    warnings: list[str]
