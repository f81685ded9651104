"""/v1/experiments/{id}/curves and /complexity: how many samples each learner needs."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from bfc_core.statistics.curves import CurveMetric
from service.complexity.reading import read_complexity, read_curves
from service.complexity.schemas import ComplexityRead, CurvesRead
from service.dependencies import ReadingDep, refuse_unknown_parameters

router = APIRouter(
    prefix="/v1/experiments", tags=["experiments"], dependencies=[Depends(refuse_unknown_parameters)]
)


@router.get("/{experiment_id}/curves", operation_id="experiments_curves", summary="Learning curves over n")
def get_curves(experiment_id: UUID, session: ReadingDep, metric: CurveMetric = "nmse") -> CurvesRead:
    """One curve a learner, dim and alphas, with intervals over seeds."""
    return read_curves(session, experiment_id, metric)


@router.get(
    "/{experiment_id}/complexity",
    operation_id="experiments_complexity",
    summary="n*(eps, delta) of every learner and dim, and how it grows",
)
def get_complexity(
    experiment_id: UUID,
    session: ReadingDep,
    eps: Annotated[float, Query(gt=0, le=1e6, allow_inf_nan=False, description="error to be reached")] = 0.1,
    delta: Annotated[
        float, Query(gt=0, lt=1, allow_inf_nan=False, description="share of seeds that may miss it")
    ] = 0.2,
    metric: CurveMetric = "nmse",
) -> ComplexityRead:
    """First and last crossing with intervals; censored where the grid does not reach; exponents with intervals."""
    return read_complexity(session, experiment_id, eps, delta, metric)
