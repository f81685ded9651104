"""/v1/runs."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from service.api_keys.quotas import check_quotas
from service.auth import PrincipalDep
from service.dependencies import (
    Cursor,
    DatabaseDep,
    Limit,
    PublisherDep,
    ReadingDep,
    refuse_unknown_parameters,
)
from service.errors import AlreadyFinishedError, NotInThisStateError
from service.pagination import Page
from service.runs.cancellation import RunAlreadyFinishedError, cancel_run
from service.runs.repository import list_measurements, owner_of, read_run
from service.runs.resumption import NotRetriableError, retry_run, seconds_of_retry
from service.runs.schemas import MeasurementRead, RunRead

router = APIRouter(prefix="/v1/runs", tags=["runs"], dependencies=[Depends(refuse_unknown_parameters)])


@router.get("/{run_id}", operation_id="runs_get", summary="One run with its report")
def get_run(run_id: UUID, session: ReadingDep) -> RunRead:
    """Read one run: its spec, where it stands, and its metrics once it has ended."""
    return read_run(session, run_id)


@router.get("/{run_id}/measurements", operation_id="runs_measurements", summary="Numbers along training")
def get_measurements(
    run_id: UUID,
    session: ReadingDep,
    name: Annotated[str | None, Query(max_length=100)] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[MeasurementRead]:
    """List what was measured while the run trained, oldest first."""
    return list_measurements(session, run_id, name, limit, cursor)


@router.post("/{run_id}/cancel", status_code=202, operation_id="runs_cancel", summary="Cancel one run")
def post_cancel(run_id: UUID, database: DatabaseDep, principal: PrincipalDep) -> RunRead:
    """Cancel a run; its pack mates go on."""
    try:
        with database.writing() as session:
            principal.check_owns(owner_of(session, run_id))
            cancel_run(session, run_id)
    except RunAlreadyFinishedError as error:
        raise AlreadyFinishedError("run", error.run_id, error.status) from error
    with database.reading() as session:
        return read_run(session, run_id)


@router.post("/{run_id}/retry", status_code=202, operation_id="runs_retry", summary="Try a run again")
def post_retry(
    run_id: UUID, database: DatabaseDep, publisher: PublisherDep, principal: PrincipalDep
) -> RunRead:
    """Queue a failed or cancelled run again; its experiment is open again until it ends. A paused one stays paused."""
    try:
        with database.writing() as session:
            principal.check_owns(owner_of(session, run_id))
            check_quotas(session, principal, runs=1, seconds=seconds_of_retry(session, run_id))
            _, wakeups = retry_run(session, run_id)
    except NotRetriableError as error:
        raise NotInThisStateError(
            "run", run_id, "tried again", error.status, ["failed", "cancelled"]
        ) from error
    publisher.publish(wakeups)
    with database.reading() as session:
        return read_run(session, run_id)
