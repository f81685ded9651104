"""Reading experiments, and storing an accepted one under its idempotency key."""

import hashlib
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from bfc_core.specs import ExperimentSpec, Metrics, RunSpec
from bfc_core.statistics.aggregation import Row
from service.errors import ExperimentNotFoundError
from service.experiments.schemas import ExperimentRead, ExperimentSummary, ManifestRead, RunCounts, links_of
from service.models import Event, Experiment, ExperimentRun, ExperimentStatus, Report, Run
from service.pagination import Page, encode_cursor, id_in_cursor
from service.runs.run_counts import Counts, begun_shares, counts_of, progress


def get_experiment(session: Session, experiment_id: UUID) -> Experiment:
    """Read one experiment.

    Raises:
        ExperimentNotFoundError: there is none of this id.
    """
    experiment = session.get(Experiment, experiment_id)
    if experiment is None:
        raise ExperimentNotFoundError(experiment_id)
    return experiment


def status_of(session: Session, experiment_id: UUID) -> ExperimentStatus:
    """An experiment's status alone: whoever asks several times a second need not read its spec.

    Raises:
        ExperimentNotFoundError: there is none of this id.
    """
    status = session.scalar(select(Experiment.status).where(Experiment.id == experiment_id))
    if status is None:
        raise ExperimentNotFoundError(experiment_id)
    return status


def read_experiment(session: Session, experiment_id: UUID) -> ExperimentRead:
    """One experiment with counts, progress and spec."""
    experiment = get_experiment(session, experiment_id)
    (summary,) = _summaries(session, [experiment])
    return ExperimentRead(
        **summary.model_dump(),
        saved_seconds=_saved_seconds(session, experiment_id) if summary.reused_runs else 0.0,
        spec=ExperimentSpec.model_validate(experiment.spec),
    )


def list_experiments(
    session: Session, status: ExperimentStatus | None, limit: int, cursor: str | None
) -> Page[ExperimentSummary]:
    """Newest first."""
    query = select(Experiment)
    if status is not None:
        query = query.where(Experiment.status == status)
    if cursor is not None:
        last = session.get(Experiment, id_in_cursor(cursor))
        if last is not None:
            query = query.where(
                tuple_(Experiment.created_at, Experiment.id) < tuple_(last.created_at, last.id)
            )
    query = query.order_by(Experiment.created_at.desc(), Experiment.id.desc()).limit(limit + 1)
    rows = session.scalars(query).all()
    return Page(
        items=_summaries(session, rows[:limit]),
        next_cursor=encode_cursor(str(rows[limit - 1].id)) if len(rows) > limit else None,
    )


def comparison_rows(session: Session, experiment_id: UUID) -> list[Row]:
    """Every run of an experiment as the statistics want it, in the order of the grid."""
    rows = session.execute(
        select(
            Run.spec,
            Run.status,
            Report.metrics,
            Report.seconds,
            Report.steps,
            Report.flops,
            Report.selection,
        )
        .join(ExperimentRun, ExperimentRun.run_id == Run.id)
        .outerjoin(Report, Report.run_id == Run.id)
        .where(ExperimentRun.experiment_id == experiment_id)
        .order_by(ExperimentRun.position)
    ).all()
    return [
        Row(
            spec=RunSpec.model_validate(row.spec),
            status=row.status.value,
            metrics=None if row.metrics is None else Metrics.model_validate(row.metrics),
            seconds=row.seconds,
            steps=row.steps,
            flops=row.flops,
            selection=row.selection or {},
        )
        for row in rows
    ]


def read_manifest(session: Session, experiment_id: UUID) -> ManifestRead:
    """Spec, code version, and hashes of what was asked and answered."""
    experiment = get_experiment(session, experiment_id)
    rows = session.execute(
        select(Run.id, Run.cell_hash, Report.metrics)
        .join(ExperimentRun, ExperimentRun.run_id == Run.id)
        .outerjoin(Report, Report.run_id == Run.id)
        .where(ExperimentRun.experiment_id == experiment_id)
        .order_by(ExperimentRun.position)
    ).all()
    return ManifestRead(
        experiment_id=experiment.id,
        spec=ExperimentSpec.model_validate(experiment.spec),
        spec_hash=experiment.spec_hash,
        code_version=experiment.code_version,
        runs={str(row.id): row.cell_hash for row in rows},
        results={
            str(row.id): hashlib.sha256(
                Metrics.model_validate(row.metrics).canonical_json().encode()
            ).hexdigest()
            for row in rows
            if row.metrics is not None
        },
    )


def events_after(session: Session, experiment_id: UUID, after: int, limit: int) -> Sequence[Event]:
    """Events of an experiment with an id above ``after``, oldest first."""
    return session.scalars(
        select(Event)
        .where(Event.experiment_id == experiment_id, Event.id > after)
        .order_by(Event.id)
        .limit(limit)
    ).all()


def last_event_id(session: Session, experiment_id: UUID) -> int:
    """The id of the newest event, 0 where there is none."""
    newest = session.scalar(select(func.max(Event.id)).where(Event.experiment_id == experiment_id))
    return newest or 0


def _summaries(session: Session, experiments: Sequence[Experiment]) -> list[ExperimentSummary]:
    begun = begun_shares(session, [row.id for row in experiments if not row.status.is_terminal])
    return [
        ExperimentSummary(
            id=experiment.id,
            name=experiment.name,
            status=experiment.status,
            spec_hash=experiment.spec_hash,
            created_at=experiment.created_at,
            started_at=experiment.started_at,
            finished_at=experiment.finished_at,
            runs=_counts(counts),
            reused_runs=_reused(session, experiment),
            progress=progress(experiment, counts, begun.get(experiment.id, 0.0)),
            links=links_of(experiment),
        )
        for experiment, counts in ((row, counts_of(session, row)) for row in experiments)
    ]


def _counts(counts: Counts) -> RunCounts:
    by_status = {status.value: count for status, count in counts.items()}
    return RunCounts(**by_status, total=sum(by_status.values()))


def _reused(session: Session, experiment: Experiment) -> int:
    if experiment.reused_runs is not None:
        return experiment.reused_runs
    # Accepted by a version that did not keep the number.
    found = session.scalar(
        select(func.count())
        .select_from(ExperimentRun)
        .join(Run, Run.id == ExperimentRun.run_id)
        .where(ExperimentRun.experiment_id == experiment.id, Run.experiment_id != experiment.id)
    )
    return found or 0


def _saved_seconds(session: Session, experiment_id: UUID) -> float:
    seconds = session.scalar(
        select(func.sum(Report.seconds))
        .join(Run, Run.id == Report.run_id)
        .join(ExperimentRun, ExperimentRun.run_id == Run.id)
        .where(ExperimentRun.experiment_id == experiment_id, Run.experiment_id != experiment_id)
    )
    return float(seconds or 0.0)
