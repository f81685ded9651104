"""The comparison of an experiment's learners as the API answers it."""

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy.orm import Session

from bfc_core.statistics.aggregation import GridPoint, Row, compare
from bfc_core.statistics.comparison import Summary
from service.experiments.repository import comparison_rows, get_experiment
from service.experiments.schemas import BackwardGainRead, CellRead, ComparisonRead, RatioRead, SummaryRead
from service.models import ExperimentStatus


def read_comparison(session: Session, experiment_id: UUID) -> ComparisonRead:
    """Compare whatever has finished; the warnings say what is missing."""
    experiment = get_experiment(session, experiment_id)
    return comparison_answer(experiment.id, experiment.status, comparison_rows(session, experiment_id))


def comparison_answer(experiment_id: UUID, status: ExperimentStatus, rows: Iterable[Row]) -> ComparisonRead:
    """The comparison of rows, wherever they come from."""
    found = compare(rows)
    return ComparisonRead(
        experiment_id=experiment_id,
        status=status,
        baseline=found.baseline,
        cells=[
            CellRead(
                label=cell.label,
                learner=cell.learner,
                **_point(cell.point),
                seeds=cell.seeds,
                succeeded=cell.statuses.get("succeeded", 0),
                diverged=cell.statuses.get("diverged", 0),
                failed=cell.statuses.get("failed", 0),
                nmse=_summary(cell.nmse),
                feature_error={level: _summary(value) for level, value in cell.feature_error.items()},
                feature_error_scale_free={
                    level: _summary(value) for level, value in cell.feature_error_scale_free.items()
                },
                variance_explained={
                    level: _summary(value) for level, value in cell.variance_explained.items()
                },
                seconds=_summary(cell.spent.seconds),
                steps=_summary(cell.spent.steps),
                flops=_summary(cell.spent.flops),
                trials=_summary(cell.spent.trials),
            )
            for cell in found.cells
        ],
        ratios=[
            RatioRead(
                label=ratio.label,
                against=ratio.against,
                **_point(ratio.point),
                metric=ratio.metric,
                level=ratio.level,
                median_ratio=ratio.ratio.median_ratio,
                low=ratio.ratio.low,
                high=ratio.ratio.high,
                method=ratio.ratio.method,
                pairs=ratio.ratio.pairs,
                p_value=ratio.ratio.p_value,
                p_value_holm=ratio.p_value_holm,
                unequal_budgets=list(ratio.unequal_budgets),
            )
            for ratio in found.ratios
        ],
        backward_gain=[
            BackwardGainRead(
                label=gain.label,
                against=gain.against,
                **_point(gain.point),
                level=gain.level,
                median=gain.ratio.median_ratio,
                low=gain.ratio.low,
                high=gain.ratio.high,
                pairs=gain.ratio.pairs,
            )
            for gain in found.backward_gain
        ],
        warnings=list(found.warnings),
    )


def _summary(summary: Summary) -> SummaryRead:
    return SummaryRead.model_validate(summary, from_attributes=True)


def _point(point: GridPoint) -> dict[str, object]:
    alphas = None if point.alphas is None else list(point.alphas)
    return {"n": point.n, "dim": point.dim, "alphas": alphas}
