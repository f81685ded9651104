"""Reading experiments, and storing an accepted one under its idempotency key."""

import hashlib
from collections.abc import Iterable, Sequence
from uuid import UUID

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from bfc_core.specs import ExperimentSpec, Metrics, RunSpec
from bfc_core.statistics.aggregation import Row
from service.errors import ExperimentNotFoundError
from service.experiments.schemas import ExperimentRead, ExperimentSummary, ManifestRead, RunCounts, links_of
from service.models import Event, Experiment, ExperimentRun, ExperimentStatus, Pack, Report, Run, RunStatus
from service.pagination import Page, encode_cursor, id_in_cursor
from service.runs.repository import terminal_statuses


def get_experiment(session: Session, experiment_id: UUID) -> Experiment:
    """Read one experiment.

    Raises:
        ExperimentNotFoundError: there is none of this id.
    """
    experiment = session.get(Experiment, experiment_id)
    if experiment is None:
        raise ExperimentNotFoundError(experiment_id)
    return experiment


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
        select(Run.spec, Run.status, Report.metrics, Report.seconds)
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
    counts = _counts(session, [experiment.id for experiment in experiments])
    reused = _reused(session, [experiment.id for experiment in experiments])
    done = _done_shares(session, [experiment.id for experiment in experiments])
    return [
        ExperimentSummary(
            id=experiment.id,
            name=experiment.name,
            status=experiment.status,
            spec_hash=experiment.spec_hash,
            created_at=experiment.created_at,
            started_at=experiment.started_at,
            finished_at=experiment.finished_at,
            runs=counts[experiment.id],
            reused_runs=reused.get(experiment.id, 0),
            progress=done.get(experiment.id, 0.0),
            links=links_of(experiment),
        )
        for experiment in experiments
    ]


def _counts(session: Session, ids: Iterable[UUID]) -> dict[UUID, RunCounts]:
    wanted = list(ids)
    rows = session.execute(
        select(ExperimentRun.experiment_id, Run.status, func.count())
        .join(Run, Run.id == ExperimentRun.run_id)
        .where(ExperimentRun.experiment_id.in_(wanted))
        .group_by(ExperimentRun.experiment_id, Run.status)
    ).all()
    found: dict[UUID, dict[str, int]] = {experiment_id: {} for experiment_id in wanted}
    for experiment_id, status, count in rows:
        found[experiment_id][RunStatus(status).value] = count
    return {
        experiment_id: RunCounts(**by_status, total=sum(by_status.values()))
        for experiment_id, by_status in found.items()
    }


def _reused(session: Session, ids: Iterable[UUID]) -> dict[UUID, int]:
    rows = session.execute(
        select(ExperimentRun.experiment_id, func.count())
        .join(Run, Run.id == ExperimentRun.run_id)
        .where(ExperimentRun.experiment_id.in_(list(ids)), Run.experiment_id != ExperimentRun.experiment_id)
        .group_by(ExperimentRun.experiment_id)
    ).all()
    return {row[0]: row[1] for row in rows}


def _saved_seconds(session: Session, experiment_id: UUID) -> float:
    seconds = session.scalar(
        select(func.sum(Report.seconds))
        .join(Run, Run.id == Report.run_id)
        .join(ExperimentRun, ExperimentRun.run_id == Run.id)
        .where(ExperimentRun.experiment_id == experiment_id, Run.experiment_id != experiment_id)
    )
    return float(seconds or 0.0)


def _done_shares(session: Session, ids: Iterable[UUID]) -> dict[UUID, float]:
    """Mean over runs of 1 for an ended run and of its pack's share for a live one."""
    rows = session.execute(
        select(ExperimentRun.experiment_id, Run.status, Pack.step, Pack.steps, func.count())
        .join(Run, Run.id == ExperimentRun.run_id)
        .join(Pack, Pack.id == Run.pack_id)
        .where(ExperimentRun.experiment_id.in_(list(ids)))
        .group_by(ExperimentRun.experiment_id, Run.status, Pack.step, Pack.steps)
    ).all()
    done: dict[UUID, float] = {}
    total: dict[UUID, int] = {}
    for experiment_id, status, step, steps, count in rows:
        share = 1.0 if status in terminal_statuses() else (min(1.0, step / steps) if steps else 0.0)
        done[experiment_id] = done.get(experiment_id, 0.0) + share * count
        total[experiment_id] = total.get(experiment_id, 0) + count
    return {experiment_id: done[experiment_id] / total[experiment_id] for experiment_id in done}
