"""The life of a search for n*: a round of experiments, then what they say is to be asked next, until nothing is.

A search keeps no state but its experiments: what comes next follows from their results alone, so whoever finds a
search whose experiments have ended may take it a round further. Reconcilers do; the row's lock makes it one of them.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import Session

from bfc_core.specs import ComplexitySpec, ExperimentSpec
from bfc_core.statistics.aggregation import Row
from bfc_core.statistics.bracketing import Aim, next_ask
from service.config import Settings
from service.database import Database, database_now
from service.experiments.repository import comparison_rows
from service.experiments.submission import accept_planned, planned
from service.jobs import Publisher
from service.models import (
    ComplexityRound,
    ComplexitySearch,
    ComplexitySearchStatus,
    Experiment,
    ExperimentRun,
    ExperimentStatus,
)
from service.runs.cancellation import ExperimentAlreadyFinishedError, cancel_experiment
from service.runs.moves import Wakeup

logger = logging.getLogger(__name__)

_DONE = [status for status in ExperimentStatus if status.is_terminal]


def begin(
    session: Session, spec: ComplexitySpec, owner: str, settings: Settings
) -> tuple[ComplexitySearch, list[Wakeup]]:
    """Store a search with the experiments of its first round; the wake-ups are to be sent after the commit."""
    search = ComplexitySearch(
        owner=owner,
        name=spec.name,
        status=ComplexitySearchStatus.RUNNING,
        spec=spec.model_dump(mode="json"),
        rounds=0,
        created_at=database_now(session),
    )
    session.add(search)
    session.flush()
    return search, _next_round(session, search, settings)


def advance(database: Database, publisher: Publisher, settings: Settings) -> None:
    """Take every search whose experiments have ended a round further. Any number of callers may do so."""
    with database.reading() as session:
        due = session.scalars(select(ComplexitySearch.id).where(*_is_due())).all()
    for search_id in due:
        with database.writing() as session:
            search = session.scalar(
                select(ComplexitySearch)
                .where(ComplexitySearch.id == search_id, *_is_due())
                .with_for_update(skip_locked=True)
            )
            wakeups = [] if search is None else _next_round(session, search, settings)
        publisher.publish(wakeups)


def cancel(session: Session, search: ComplexitySearch) -> None:
    """End a search and the experiments that it still waits for; the caller holds its row."""
    for experiment_id in session.scalars(
        select(ComplexityRound.experiment_id).where(ComplexityRound.search_id == search.id)
    ).all():
        try:
            cancel_experiment(session, experiment_id)
        except ExperimentAlreadyFinishedError:
            continue
    _end(session, search, ComplexitySearchStatus.CANCELLED, "cancelled on request")


def rows_of(session: Session, search_id: UUID) -> dict[tuple[int, int], list[Row]]:
    """What a search has run so far: (index of the learner, dim) → its rows, without the controls beside it."""
    found: defaultdict[tuple[int, int], list[Row]] = defaultdict(list)
    for one in session.scalars(
        select(ComplexityRound).where(ComplexityRound.search_id == search_id).order_by(ComplexityRound.number)
    ).all():
        rows = comparison_rows(session, one.experiment_id)
        asked = rows[0].spec.learner.kind if rows else None
        found[one.learner, one.dim] += [row for row in rows if row.spec.learner.kind == asked]
    return dict(sorted(found.items()))


def aim_of(spec: ComplexitySpec) -> Aim:
    """What the statistics are asked to find."""
    return Aim(spec.grid(), spec.eps, spec.delta, spec.seeds, spec.most_seeds, spec.widest_interval)


def _is_due() -> list[ColumnElement[bool]]:
    """A search that runs and waits for none of its experiments."""
    waits = exists().where(
        ComplexityRound.search_id == ComplexitySearch.id,
        Experiment.id == ComplexityRound.experiment_id,
        Experiment.status.not_in(_DONE),
    )
    return [ComplexitySearch.status == ComplexitySearchStatus.RUNNING, ~waits]


def _next_round(session: Session, search: ComplexitySearch, settings: Settings) -> list[Wakeup]:
    """Ask for what the results so far call for, or end the search."""
    spec = ComplexitySpec.model_validate(search.spec)
    found = rows_of(session, search.id)
    lost = sum(row.status in {"failed", "cancelled"} for rows in found.values() for row in rows)
    if lost:
        _end(
            session,
            search,
            ComplexitySearchStatus.FAILED,
            f"{lost} runs ended without a result; see its experiments",
        )
        return []
    asked: list[tuple[int, int, ExperimentSpec]] = []
    for learner in range(len(spec.learners)):
        for dim in spec.dim:
            ask = next_ask(_errors(found.get((learner, dim), []), spec), aim_of(spec))
            if ask is not None:
                asked.append((learner, dim, spec.experiment((learner,), (dim,), ask.sizes, ask.seeds)))
    if not asked:
        _end(session, search, ComplexitySearchStatus.SUCCEEDED, None)
        return []
    spent = runs_of(session, search.id)
    if spent + sum(experiment.cell_count() for _, _, experiment in asked) > spec.max_runs:
        text = f"{spent} of max_runs = {spec.max_runs} are spent; some brackets are wider than asked"
        _end(session, search, ComplexitySearchStatus.SUCCEEDED, text)
        return []
    search.rounds += 1
    wakeups: list[Wakeup] = []
    for learner, dim, experiment_spec in asked:
        experiment, of_experiment = accept_planned(
            session, planned(session, experiment_spec, settings), search.owner, settings
        )
        session.add(
            ComplexityRound(
                search_id=search.id,
                experiment_id=experiment.id,
                number=search.rounds,
                learner=learner,
                dim=dim,
            )
        )
        wakeups += of_experiment
    session.flush()
    return wakeups


def _errors(rows: Sequence[Row], spec: ComplexitySpec) -> dict[int, dict[int, float]]:
    errors: defaultdict[int, dict[int, float]] = defaultdict(dict)
    for row in rows:
        value = None if row.metrics is None else getattr(row.metrics, spec.metric)
        errors[row.spec.n][row.spec.seed] = math.inf if value is None else value
    return dict(errors)


def runs_of(session: Session, search_id: UUID) -> int:
    """Distinct runs that a search has asked for."""
    counted = session.scalar(
        select(func.count(ExperimentRun.run_id.distinct()))
        .join(ComplexityRound, ComplexityRound.experiment_id == ExperimentRun.experiment_id)
        .where(ComplexityRound.search_id == search_id)
    )
    return counted or 0


def _end(
    session: Session, search: ComplexitySearch, status: ComplexitySearchStatus, message: str | None
) -> None:
    search.status, search.message = status, message
    search.finished_at = database_now(session)
    session.flush()
    logger.info("complexity_search.ended id=%s status=%s", search.id, status.value)
