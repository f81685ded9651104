"""Learning curves and sample complexity of an experiment as the API answers them."""

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy.orm import Session

from bfc_core.statistics.aggregation import Row
from bfc_core.statistics.complexity import Crossing, SampleComplexity
from bfc_core.statistics.curves import (
    ComplexityCell,
    ComplexityFit,
    CurveMetric,
    complexity_of,
    curves_of,
    points_of,
)
from bfc_core.theory.sheets import Bound
from service.complexity.schemas import (
    ComplexityCellRead,
    ComplexityFitRead,
    ComplexityRead,
    CrossingRead,
    CurvePointRead,
    CurveRead,
    CurvesRead,
    TheoryRead,
)
from service.experiments.repository import comparison_rows, get_experiment
from service.experiments.schemas import SummaryRead
from service.models import ExperimentStatus


def read_curves(session: Session, experiment_id: UUID, metric: CurveMetric) -> CurvesRead:
    """Every curve, over whatever has finished."""
    experiment = get_experiment(session, experiment_id)
    curves = curves_of(comparison_rows(session, experiment_id), metric)
    return CurvesRead(
        experiment_id=experiment.id,
        status=experiment.status,
        metric=metric,
        curves=[
            CurveRead(
                label=curve.label,
                learner=curve.learner,
                dim=curve.dim,
                alphas=_listed(curve.alphas),
                points=[
                    CurvePointRead(
                        n=point.n,
                        error=SummaryRead.model_validate(point.summary, from_attributes=True),
                        diverged=point.diverged,
                    )
                    for point in points_of(curve)
                ],
                unfinished=curve.unfinished,
            )
            for curve in curves
        ],
    )


def read_complexity(
    session: Session, experiment_id: UUID, eps: float, delta: float, metric: CurveMetric
) -> ComplexityRead:
    """n*(eps, delta) over whatever has finished; the warnings say what is missing."""
    experiment = get_experiment(session, experiment_id)
    rows = comparison_rows(session, experiment_id)
    return complexity_answer(experiment.id, experiment.status, rows, eps, delta, metric)


def complexity_answer(
    experiment_id: UUID,
    status: ExperimentStatus,
    rows: Iterable[Row],
    eps: float,
    delta: float,
    metric: CurveMetric,
) -> ComplexityRead:
    """The complexity of rows, wherever they come from."""
    found = complexity_of(rows, eps, delta, metric)
    return ComplexityRead(
        experiment_id=experiment_id,
        status=status,
        metric=metric,
        eps=eps,
        delta=delta,
        cells=[cell_read(cell) for cell in found.cells],
        fits=[fit_read(fit) for fit in found.fits],
        warnings=list(found.warnings),
    )


def theory_read(bound: Bound) -> TheoryRead:
    """One statement of a theory sheet."""
    return TheoryRead.model_validate(bound, from_attributes=True)


def cell_read(cell: ComplexityCell) -> ComplexityCellRead:
    """n* of one curve."""
    curve, found = cell.curve, cell.found
    return ComplexityCellRead(
        label=curve.label,
        learner=curve.learner,
        dim=curve.dim,
        alphas=_listed(curve.alphas),
        first=_crossing(found.first, found),
        last=_crossing(found.last, found),
        is_monotone=found.is_monotone,
        smallest_n=found.smallest_n,
        largest_n=found.largest_n,
        seeds=found.seeds,
    )


def _crossing(crossing: Crossing, found: SampleComplexity) -> CrossingRead:
    return CrossingRead(
        value=crossing.value,
        censored=crossing.censored,
        low=crossing.low,
        high=crossing.high,
        text=crossing.in_words(found.smallest_n, found.largest_n),
    )


def fit_read(fit: ComplexityFit) -> ComplexityFitRead:
    """How n* of one learner grows."""
    growth = fit.growth
    return ComplexityFitRead(
        label=fit.label,
        learner=fit.learner,
        alphas=_listed(fit.alphas),
        exponent=growth.exponent,
        low=growth.low,
        high=growth.high,
        rate=growth.rate,
        aic_difference=growth.aic_difference,
        preferred=growth.preferred,
        sizes=growth.sizes,
        said=growth.said,
        theory=None if fit.theory is None else theory_read(fit.theory),
    )


def _listed(alphas: tuple[float, ...] | None) -> list[float] | None:
    return None if alphas is None else list(alphas)
