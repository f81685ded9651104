"""/v1/experiments/{id}/curves and /complexity: how many samples each learner needs."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from bfc_core.statistics.curves import CurveMetric
from service.charts.build import chart_svg
from service.charts.complexity import complexity_chart
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


Eps = Annotated[float, Query(gt=0, le=1e6, allow_inf_nan=False, description="error to be reached")]
Delta = Annotated[
    float, Query(gt=0, lt=1, allow_inf_nan=False, description="share of seeds that may miss it")
]


@router.get(
    "/{experiment_id}/complexity",
    operation_id="experiments_complexity",
    summary="n*(eps, delta) of every learner and dim, and how it grows",
)
def get_complexity(
    experiment_id: UUID,
    session: ReadingDep,
    eps: Eps = 0.1,
    delta: Delta = 0.2,
    metric: CurveMetric = "nmse",
) -> ComplexityRead:
    """First and last crossing with intervals; censored where the grid does not reach; exponents with intervals."""
    return read_complexity(session, experiment_id, eps, delta, metric)


@router.get(
    "/{experiment_id}/charts/complexity.vl.json",
    operation_id="experiments_complexity_chart",
    summary="n* against dim as a Vega-Lite spec",
)
def get_chart(
    experiment_id: UUID,
    session: ReadingDep,
    eps: Eps = 0.1,
    delta: Delta = 0.2,
    metric: CurveMetric = "nmse",
) -> dict[str, Any]:
    """Build the chart from the complexity."""
    found = read_complexity(session, experiment_id, eps, delta, metric)
    return complexity_chart(found.model_dump(mode="json"))


@router.get(
    "/{experiment_id}/charts/complexity.svg",
    operation_id="experiments_complexity_chart_svg",
    summary="n* against dim as SVG",
    response_class=Response,
)
def get_chart_svg(
    experiment_id: UUID,
    session: ReadingDep,
    eps: Eps = 0.1,
    delta: Delta = 0.2,
    metric: CurveMetric = "nmse",
) -> Response:
    """Draw the chart on the server."""
    svg = chart_svg(get_chart(experiment_id, session, eps, delta, metric))
    return Response(svg, media_type="image/svg+xml")
