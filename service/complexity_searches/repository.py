"""Reading searches for n*."""

from uuid import UUID

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from bfc_core.specs import ComplexitySpec
from bfc_core.statistics.curves import complexity_of
from service.complexity.reading import cell_read, fit_read
from service.complexity_searches.progress import rows_of, runs_of
from service.complexity_searches.schemas import ComplexitySearchRead, ComplexitySearchSummary
from service.errors import ComplexitySearchNotFoundError
from service.models import ComplexityRound, ComplexitySearch, Experiment
from service.pagination import Page, encode_cursor, id_in_cursor


def get_search(session: Session, search_id: UUID, *, hold: bool = False) -> ComplexitySearch:
    """Read one search; ``hold`` takes its row for a change.

    Raises:
        ComplexitySearchNotFoundError: there is none of this id.
    """
    query = select(ComplexitySearch).where(ComplexitySearch.id == search_id)
    search = session.scalar(query.with_for_update() if hold else query)
    if search is None:
        raise ComplexitySearchNotFoundError(search_id)
    return search


def list_searches(session: Session, limit: int, cursor: str | None) -> Page[ComplexitySearchSummary]:
    """Newest first."""
    query = select(ComplexitySearch)
    if cursor is not None:
        last = session.get(ComplexitySearch, id_in_cursor(cursor))
        if last is not None:
            before = tuple_(ComplexitySearch.created_at, ComplexitySearch.id)
            query = query.where(before < tuple_(last.created_at, last.id))
    query = query.order_by(ComplexitySearch.created_at.desc(), ComplexitySearch.id.desc()).limit(limit + 1)
    rows = session.scalars(query).all()
    return Page(
        items=[_summary(session, row, ComplexitySpec.model_validate(row.spec)) for row in rows[:limit]],
        next_cursor=encode_cursor(str(rows[limit - 1].id)) if len(rows) > limit else None,
    )


def read_search(session: Session, search_id: UUID) -> ComplexitySearchRead:
    """One search with n* of every learner and dim, as far as it is known."""
    search = get_search(session, search_id)
    spec = ComplexitySpec.model_validate(search.spec)
    rows = [row for of_cell in rows_of(session, search_id).values() for row in of_cell]
    found = complexity_of(rows, spec.eps, spec.delta, spec.metric)
    distinct = {row.spec.content_hash(): row.seconds or 0.0 for row in rows}
    return ComplexitySearchRead(
        **_summary(session, search, spec).model_dump(),
        spec=spec,
        experiments=list(
            session.scalars(
                select(ComplexityRound.experiment_id)
                .where(ComplexityRound.search_id == search_id)
                .order_by(ComplexityRound.number, ComplexityRound.learner, ComplexityRound.dim)
            )
        ),
        seconds=sum(distinct.values()),
        cells=[cell_read(cell) for cell in found.cells],
        fits=[fit_read(fit) for fit in found.fits],
        warnings=list(found.warnings),
    )


def _summary(session: Session, search: ComplexitySearch, spec: ComplexitySpec) -> ComplexitySearchSummary:
    return ComplexitySearchSummary(
        id=search.id,
        name=search.name,
        status=search.status,
        message=search.message,
        rounds=search.rounds,
        runs=runs_of(session, search.id),
        full_grid_runs=spec.full_grid_runs(_seeds_used(session, search.id, spec)),
        created_at=search.created_at,
        finished_at=search.finished_at,
    )


def _seeds_used(session: Session, search_id: UUID, spec: ComplexitySpec) -> int:
    """Seeds of the size that has most of them."""
    if spec.most_seeds == spec.seeds:
        return spec.seeds
    asked = session.scalars(
        select(Experiment.spec)
        .join(ComplexityRound, ComplexityRound.experiment_id == Experiment.id)
        .where(ComplexityRound.search_id == search_id)
    )
    return max((len(of_round["seeds"]) for of_round in asked), default=spec.seeds)
