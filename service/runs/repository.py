"""Reading runs and their measurements."""

from uuid import UUID

from sqlalchemy import Row, Select, and_, select
from sqlalchemy.orm import Session

from bfc_core.specs import Metrics, RunSpec
from service.errors import RunNotFoundError
from service.models import Attempt, Experiment, ExperimentRun, Measurement, Pack, Report, Run, RunStatus
from service.pagination import Page, encode_cursor, number_in_cursor
from service.runs.schemas import MeasurementRead, RunRead


def read_run(session: Session, run_id: UUID) -> RunRead:
    """Read one run.

    Raises:
        RunNotFoundError: there is none of this id.
    """
    row = session.execute(_runs().where(Run.id == run_id)).first()
    if row is None:
        raise RunNotFoundError(run_id)
    return _read(row)


def owner_of(session: Session, run_id: UUID) -> str:
    """Who asked for a run first.

    Raises:
        RunNotFoundError: there is none of this id.
    """
    owner = session.scalar(
        select(Experiment.owner).join(Run, Run.experiment_id == Experiment.id).where(Run.id == run_id)
    )
    if owner is None:
        raise RunNotFoundError(run_id)
    return owner


def list_runs(
    session: Session, experiment_id: UUID, status: RunStatus | None, limit: int, cursor: str | None
) -> Page[RunRead]:
    """Runs of an experiment in the order of its grid."""
    query = _runs().where(ExperimentRun.experiment_id == experiment_id)
    if status is not None:
        query = query.where(Run.status == status)
    if cursor is not None:
        query = query.where(ExperimentRun.position > number_in_cursor(cursor))
    rows = session.execute(query.order_by(ExperimentRun.position).limit(limit + 1)).all()
    return Page(
        items=[_read(row) for row in rows[:limit]],
        next_cursor=encode_cursor(rows[limit - 1].position) if len(rows) > limit else None,
    )


def list_measurements(
    session: Session, run_id: UUID, name: str | None, limit: int, cursor: str | None
) -> Page[MeasurementRead]:
    """Measurements of a run in the order in which they were stored."""
    read_run(session, run_id)
    query = select(Measurement).where(Measurement.run_id == run_id)
    if name is not None:
        query = query.where(Measurement.name == name)
    if cursor is not None:
        query = query.where(Measurement.id > number_in_cursor(cursor))
    rows = session.scalars(query.order_by(Measurement.id).limit(limit + 1)).all()
    return Page(
        items=[
            MeasurementRead(
                id=row.id, name=row.name, step=row.step, stage=row.stage, level=row.level, value=row.value
            )
            for row in rows[:limit]
        ],
        next_cursor=encode_cursor(rows[limit - 1].id) if len(rows) > limit else None,
    )


def _runs() -> Select[Run, Report, Attempt, int, int, int]:
    return (
        select(Run, Report, Attempt, Pack.step, Pack.steps, ExperimentRun.position)
        .join(Pack, Pack.id == Run.pack_id)
        .join(
            ExperimentRun,
            ExperimentRun.run_id == Run.id,
        )
        .outerjoin(Report, Report.run_id == Run.id)
        .outerjoin(Attempt, and_(Attempt.pack_id == Run.pack_id, Attempt.fence == Report.fence))
    )


def _read(row: Row[Run, Report, Attempt, int, int, int]) -> RunRead:
    run: Run = row[0]
    report: Report | None = row[1]  # an outer join: a live run has none
    attempt: Attempt | None = row[2]
    step, steps = row.step, row.steps
    spec = RunSpec.model_validate(run.spec)
    share = min(1.0, step / steps) if steps else 0.0
    return RunRead(
        id=run.id,
        experiment_id=run.experiment_id,
        status=run.status,
        target=spec.target,
        learner=spec.learner,
        label=run.label,
        n=run.n,
        dim=run.dim,
        seed=run.seed,
        metrics=Metrics.model_validate(report.metrics) if report and report.metrics is not None else None,
        seconds=report.seconds if report else None,
        steps=report.steps if report else None,
        flops=report.flops if report else None,
        peak_memory_bytes=attempt.peak_memory_bytes if attempt else None,
        pack_members=attempt.members if attempt else None,
        selection=report.selection if report else {},
        warnings=report.warnings if report else [],
        message=report.message if report else run.message,
        progress=1.0 if run.status.is_terminal else share,
        attempts=run.attempts,
        created_at=run.created_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        measurements_deleted_at=run.measurements_deleted_at,
    )
