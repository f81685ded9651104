"""The life of a search for n*: a round of experiments, then what they say is to be asked next, until nothing is.

A search keeps no state but its experiments: what comes next follows from their results alone, so whoever finds a
search whose experiments have ended may take it a round further. Reconcilers do; the row's lock makes it one of them.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from bfc_core.specs import ComplexitySpec, ExperimentSpec
from bfc_core.specs.learners import label_of
from bfc_core.statistics.aggregation import Row
from bfc_core.statistics.bracketing import Aim, is_settled, next_ask
from service.api_keys.quotas import check_quotas
from service.api_keys.repository import held_key
from service.auth import Principal
from service.config import Settings
from service.database import Database, database_now
from service.errors import PlanRefusedError, QuotaExceededError
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
    Run,
)
from service.runs.cancellation import ExperimentAlreadyFinishedError, cancel_experiment
from service.runs.moves import Wakeup

logger = logging.getLogger(__name__)

_DONE = [status for status in ExperimentStatus if status.is_terminal]


class KeyGoneError(Exception):
    """The API key that asked for a search is revoked or expired."""


def begin(
    session: Session, spec: ComplexitySpec, principal: Principal, settings: Settings
) -> tuple[ComplexitySearch, list[Wakeup]]:
    """Store a search with the experiments of its first round; the wake-ups are to be sent after the commit.

    Raises:
        QuotaExceededError: the first round would be more than the API key allows.
    """
    search = ComplexitySearch(
        owner=principal.owner,
        api_key_id=principal.key_id,
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
        try:
            wakeups = _advance_one(database, search_id, settings)
        except SQLAlchemyError:
            raise
        except Exception:
            # A defect that one search meets must not keep those behind it from going on.
            logger.exception("complexity_search.not_advanced id=%s", search_id)
            continue
        publisher.publish(wakeups)


def _advance_one(database: Database, search_id: UUID, settings: Settings) -> list[Wakeup]:
    with database.writing() as session:
        search = session.scalar(
            select(ComplexitySearch)
            .where(ComplexitySearch.id == search_id, *_is_due())
            .with_for_update(skip_locked=True)
        )
        return [] if search is None else _next_round_or_pause(session, search, settings)


def resume(
    session: Session, search: ComplexitySearch, principal: Principal, settings: Settings
) -> list[Wakeup]:
    """Go on with a paused search under the quotas of the key that asks; the caller holds its row.

    Raises:
        QuotaExceededError: the round is still more than the key allows.
    """
    search.api_key_id = principal.key_id
    search.status, search.message = ComplexitySearchStatus.RUNNING, None
    session.flush()
    return _next_round(session, search, settings)


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


def _next_round_or_pause(session: Session, search: ComplexitySearch, settings: Settings) -> list[Wakeup]:
    """The next round; where quotas or the deployment do not allow it nothing is stored, and the search says so."""
    try:
        return _next_round(session, search, settings)
    except QuotaExceededError as error:
        why = error.detail
    except KeyGoneError:
        why = "the API key that asked for it is revoked or expired"
    except PlanRefusedError as error:
        # The deployment allows less than when the search was accepted; asking again would not help.
        text = f"round {search.rounds + 1} does not fit this deployment any more: {error.detail}"
        _end(session, search, ComplexitySearchStatus.FAILED, text)
        return []
    search.status = ComplexitySearchStatus.PAUSED
    search.message = f"paused before round {search.rounds + 1}: {why}. Resume it once there is room"
    session.flush()
    logger.info("complexity_search.paused id=%s", search.id)
    return []


def _next_round(session: Session, search: ComplexitySearch, settings: Settings) -> list[Wakeup]:
    """Ask for what the results so far call for, or end the search."""
    spec = ComplexitySpec.model_validate(search.spec)
    results = rows_of(session, search.id)
    lost = sum(row.status in {"failed", "cancelled"} for rows in results.values() for row in rows)
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
            ask = next_ask(_errors(results.get((learner, dim), []), spec), aim_of(spec))
            if ask is not None:
                asked.append((learner, dim, spec.experiment((learner,), (dim,), ask.sizes, ask.seeds)))
    if not asked:
        _end(session, search, ComplexitySearchStatus.SUCCEEDED, _why_too_wide(results, spec))
        return []
    spent = runs_of(session, search.id)
    known = {key: {(row.spec.n, row.spec.seed) for row in rows} for key, rows in results.items()}
    new = sum(
        (run.n, run.seed) not in known.get((learner, dim), ())
        for learner, dim, experiment in asked
        for run in experiment.runs()
    )
    if spent + new > spec.max_runs:
        text = f"{spent} of max_runs = {spec.max_runs} are spent; some brackets are wider than asked"
        _end(session, search, ComplexitySearchStatus.SUCCEEDED, text)
        return []
    plans = [planned(session, experiment_spec, settings) for _, _, experiment_spec in asked]
    check_quotas(
        session,
        _asking(session, search),
        runs=sum(len(found.cells) - found.reused_cells for found in plans),
        seconds=sum(found.estimated_seconds for found in plans),
    )
    search.rounds += 1
    wakeups: list[Wakeup] = []
    for (learner, dim, _), found in zip(asked, plans, strict=True):
        experiment, of_experiment = accept_planned(session, found, search.owner, settings)
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


def _why_too_wide(results: Mapping[tuple[int, int], Sequence[Row]], spec: ComplexitySpec) -> str | None:
    """What to say where all seeds are spent and an interval is still wider than asked."""
    if spec.widest_interval is None:
        return None
    aim = aim_of(spec)
    wide = [
        f"{label_of(rows[0].spec.learner)} at dim {dim}"
        for (_, dim), rows in results.items()
        if not is_settled(_errors(rows, spec), aim)
    ]
    if not wide:
        return None
    return (
        f"max_seeds = {spec.most_seeds} are spent and the interval of n* is still wider than "
        f"{spec.widest_interval:g} doublings: {', '.join(wide)}"
    )


def _asking(session: Session, search: ComplexitySearch) -> Principal:
    """Whose quotas hold: the owner of the search, by the limits that the key which asked for it has now.

    Raises:
        KeyGoneError: that key may ask for nothing any more.
    """
    if search.api_key_id is None:
        return Principal(search.owner, frozenset())
    key = held_key(session, search.api_key_id)
    if key is None:
        raise KeyGoneError
    return Principal(search.owner, frozenset(), key.id, key.live_runs_limit, key.daily_seconds_limit)


def _errors(rows: Sequence[Row], spec: ComplexitySpec) -> dict[int, dict[int, float]]:
    errors: defaultdict[int, dict[int, float]] = defaultdict(dict)
    for row in rows:
        value = None if row.metrics is None else getattr(row.metrics, spec.metric)
        errors[row.spec.n][row.spec.seed] = math.inf if value is None else value
    return dict(errors)


def runs_of(session: Session, search_id: UUID) -> int:
    """Distinct cells that a search has asked for: a later round may be answered by another's run of the same cell."""
    counted = session.scalar(
        select(func.count(Run.cell_hash.distinct()))
        .join(ExperimentRun, ExperimentRun.run_id == Run.id)
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
