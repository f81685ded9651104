"""/v1/complexity: how many samples a learner needs, as a job of its own."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Response

from bfc_core.specs import ComplexitySpec
from service.auth import PrincipalDep
from service.complexity_searches.progress import cancel, resume
from service.complexity_searches.repository import get_search, list_searches, read_search
from service.complexity_searches.schemas import ComplexitySearchRead, ComplexitySearchSummary
from service.complexity_searches.submission import start
from service.dependencies import (
    Cursor,
    DatabaseDep,
    Limit,
    PublisherDep,
    ReadingDep,
    SettingsDep,
    refuse_unknown_parameters,
)
from service.errors import AlreadyFinishedError, NotInThisStateError
from service.examples import COMPLEXITY_EXAMPLES
from service.idempotency import IdempotencyKeyHeader, accepted
from service.models import ComplexitySearchStatus
from service.pagination import Page

router = APIRouter(
    prefix="/v1/complexity", tags=["complexity"], dependencies=[Depends(refuse_unknown_parameters)]
)


@router.post(
    "",
    status_code=202,
    response_model=ComplexitySearchRead,
    operation_id="complexity_create",
    summary="Search for n* by bisection",
)
def create(
    spec: Annotated[ComplexitySpec, Body(openapi_examples=COMPLEXITY_EXAMPLES)],
    settings: SettingsDep,
    database: DatabaseDep,
    publisher: PublisherDep,
    principal: PrincipalDep,
    idempotency_key: IdempotencyKeyHeader = None,
) -> Response:
    """Ask for n*(eps, delta) of every learner and dim; sizes are run one after another where the answer needs them."""
    submission = start(spec, idempotency_key, principal, database, publisher, settings)
    return accepted(submission, f"/v1/complexity/{submission.answer['id']}")


@router.get("", operation_id="complexity_list", summary="Searches, newest first")
def list_all(session: ReadingDep, limit: Limit = 50, cursor: Cursor = None) -> Page[ComplexitySearchSummary]:
    """List searches."""
    return list_searches(session, limit, cursor)


@router.get("/{search_id}", operation_id="complexity_get", summary="A search and what it knows so far")
def get_one(search_id: UUID, session: ReadingDep) -> ComplexitySearchRead:
    """Read a search: brackets while it runs, n* with intervals and exponents once it has ended."""
    return read_search(session, search_id)


@router.post(
    "/{search_id}/cancel", status_code=202, operation_id="complexity_cancel", summary="Cancel a search"
)
def post_cancel(search_id: UUID, database: DatabaseDep, principal: PrincipalDep) -> ComplexitySearchRead:
    """Cancel a search and whatever it still waits for."""
    with database.writing() as session:
        search = get_search(session, search_id, hold=True)
        principal.check_owns(search.owner)
        if search.status.is_terminal:
            raise AlreadyFinishedError("search", search.id, search.status)
        cancel(session, search)
    with database.reading() as session:
        return read_search(session, search_id)


@router.post(
    "/{search_id}/resume", status_code=202, operation_id="complexity_resume", summary="Let a search go on"
)
def post_resume(
    search_id: UUID,
    database: DatabaseDep,
    publisher: PublisherDep,
    settings: SettingsDep,
    principal: PrincipalDep,
) -> ComplexitySearchRead:
    """Go on with a search that a quota has paused, by the quotas of the key that asks; 429 while there is no room."""
    with database.writing() as session:
        search = get_search(session, search_id, hold=True)
        principal.check_owns(search.owner)
        if search.status is not ComplexitySearchStatus.PAUSED:
            raise NotInThisStateError("search", search.id, "resumed", search.status, ["paused"])
        wakeups = resume(session, search, principal, settings)
    publisher.publish(wakeups)
    with database.reading() as session:
        return read_search(session, search_id)
