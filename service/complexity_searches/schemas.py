"""Bodies of the complexity search endpoints."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field

from bfc_core.specs import ComplexitySpec
from service.complexity.schemas import ComplexityCellRead, ComplexityFitRead
from service.models import ComplexitySearchStatus


class ComplexitySearchSummary(BaseModel):
    """A search as a list shows it."""

    id: UUID
    name: str
    status: ComplexitySearchStatus
    message: str | None = Field(description="why it ended before its aim or is paused, or null")
    rounds: int
    runs: int = Field(description="distinct runs that it has asked for so far")
    full_grid_runs: int = Field(description="what every size with as many seeds as were used would have been")
    created_at: datetime
    finished_at: datetime | None


class ComplexitySearchRead(ComplexitySearchSummary):
    """A search with what is known so far: brackets while it runs, the answer once it has ended."""

    spec: ComplexitySpec
    experiments: list[UUID]
    seconds: float = Field(description="computing time of its runs")
    cells: list[ComplexityCellRead]
    fits: list[ComplexityFitRead]
    warnings: list[str]
