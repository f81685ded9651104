"""/v1/experiments."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from pydantic.json_schema import SkipJsonSchema
from sqlalchemy.orm import Session
from sse_starlette import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from bfc_core.specs import ExperimentSpec
from service.auth import PrincipalDep
from service.charts.build import CHARTS, build_chart, chart_svg
from service.dependencies import (
    Cursor,
    DatabaseDep,
    FeedsDep,
    Limit,
    PublisherDep,
    ReadingDep,
    SettingsDep,
    refuse_unknown_parameters,
)
from service.errors import AlreadyFinishedError, ChartNotFoundError, NotInThisStateError
from service.events import DRAIN_SECONDS, PING_SECONDS
from service.examples import EXPERIMENT_EXAMPLES
from service.experiments.comparison import read_comparison
from service.experiments.planning import ExperimentPlan
from service.experiments.repository import (
    events_after,
    get_experiment,
    list_experiments,
    read_experiment,
    read_manifest,
)
from service.experiments.results import as_csv, as_ndjson, as_parquet, flat_rows
from service.experiments.schemas import (
    ComparisonRead,
    ExperimentRead,
    ExperimentSummary,
    LearnerPlanRead,
    ManifestRead,
    PlanRead,
)
from service.experiments.submission import planned, submit
from service.experiments.waiting import awaited_experiment
from service.idempotency import IdempotencyKeyHeader, accepted
from service.models import ExperimentStatus, RunStatus
from service.pagination import Page, encode_cursor, number_in_cursor
from service.runs.cancellation import ExperimentAlreadyFinishedError, cancel_experiment
from service.runs.repository import list_runs
from service.runs.resumption import (
    NotPausableError,
    NotPausedError,
    pause_experiment,
    resume_experiment,
)
from service.runs.schemas import RunRead

router = APIRouter(
    prefix="/v1/experiments", tags=["experiments"], dependencies=[Depends(refuse_unknown_parameters)]
)

Body = Annotated[ExperimentSpec, EXPERIMENT_EXAMPLES]

TheoryQuery = Annotated[
    bool,
    Query(
        description="draw what theory says over the learning curves of the chart 'comparison': where kernels begin to "
        "learn a degree, where they peak, lower bounds, expected curves; without effect on other charts"
    ),
]

ResultFormat = Literal["csv", "parquet", "ndjson"]


class EventRead(BaseModel):
    """One event, as the JSON list shows it."""

    id: int
    name: str
    payload: dict[str, Any]


@router.post(
    "",
    status_code=202,
    operation_id="experiments_create",
    summary="Submit an experiment, or plan it",
    response_model=ExperimentRead | PlanRead,
    responses={200: {"model": PlanRead, "description": "The plan of a dry run; nothing is stored"}},
)
def create(
    spec: Body,
    settings: SettingsDep,
    database: DatabaseDep,
    publisher: PublisherDep,
    principal: PrincipalDep,
    dry_run: Annotated[bool, Query(description="answer the plan, store nothing")] = False,  # noqa: FBT002
    force: Annotated[bool, Query(description="compute cells anew that a finished run answers")] = False,  # noqa: FBT002
    priority: Annotated[int, Query(ge=-100, le=100, description="higher runs first")] = 0,
    idempotency_key: IdempotencyKeyHeader = None,
) -> Response:
    """Accept an experiment; it is stored when this answers, and runs as soon as a worker is free.

    Cells that an earlier experiment has answered with the same code are linked, not run again.
    """
    if dry_run:
        with database.reading() as session:
            found = planned(session, spec, settings, force=force)
        return JSONResponse(_plan(found).model_dump(mode="json"))
    submission = submit(
        spec, idempotency_key, principal, database, publisher, settings, priority=priority, force=force
    )
    return accepted(submission, f"/v1/experiments/{submission.answer['id']}")


@router.get("", operation_id="experiments_list", summary="Experiments, newest first")
def list_all(
    session: ReadingDep,
    status: ExperimentStatus | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ExperimentSummary]:
    """List experiments."""
    return list_experiments(session, status, limit, cursor)


@router.get(
    "/{experiment_id}",
    operation_id="experiments_get",
    summary="One experiment; waits where asked",
    response_model=ExperimentRead,
    responses={304: {"description": "Unchanged since the ETag in If-None-Match"}},
)
async def get_one(
    experiment_id: UUID,
    database: DatabaseDep,
    feeds: FeedsDep,
    wait: Annotated[float, Query(ge=0, le=60, description="seconds to wait for the end or a change")] = 0,
    if_none_match: Annotated[str | None, Header(max_length=1000)] = None,
) -> Response:
    """Read an experiment. With ``wait`` the answer comes when it has ended, changed, or the time is over."""
    found = await awaited_experiment(database, feeds, experiment_id, wait, if_none_match)
    return found.answer(if_none_match)


@router.post(
    "/{experiment_id}/cancel",
    status_code=202,
    operation_id="experiments_cancel",
    summary="Cancel an experiment",
)
def post_cancel(experiment_id: UUID, database: DatabaseDep, principal: PrincipalDep) -> ExperimentRead:
    """Cancel every run that has not ended; queued ones end at once."""
    try:
        with database.writing() as session:
            principal.check_owns(get_experiment(session, experiment_id).owner)
            cancel_experiment(session, experiment_id)
    except ExperimentAlreadyFinishedError as error:
        raise AlreadyFinishedError("experiment", error.experiment_id, error.status) from error
    return _read(database, experiment_id)


@router.post(
    "/{experiment_id}/pause", status_code=202, operation_id="experiments_pause", summary="Pause an experiment"
)
def post_pause(experiment_id: UUID, database: DatabaseDep, principal: PrincipalDep) -> ExperimentRead:
    """Start nothing more of it; what runs is checkpointed and stops within seconds."""
    try:
        with database.writing() as session:
            principal.check_owns(get_experiment(session, experiment_id).owner)
            pause_experiment(session, experiment_id)
    except NotPausableError as error:
        raise NotInThisStateError(
            "experiment", experiment_id, "paused", error.status, ["queued", "running"]
        ) from error
    return _read(database, experiment_id)


@router.post(
    "/{experiment_id}/resume", status_code=202, operation_id="experiments_resume", summary="Let it go on"
)
def post_resume(
    experiment_id: UUID, database: DatabaseDep, publisher: PublisherDep, principal: PrincipalDep
) -> ExperimentRead:
    """Go on with a paused experiment, from its checkpoints."""
    try:
        with database.writing() as session:
            principal.check_owns(get_experiment(session, experiment_id).owner)
            _, wakeups = resume_experiment(session, experiment_id)
    except NotPausedError as error:
        raise NotInThisStateError("experiment", experiment_id, "resumed", error.status, ["paused"]) from error
    publisher.publish(wakeups)
    return _read(database, experiment_id)


@router.get("/{experiment_id}/runs", operation_id="experiments_runs", summary="Runs of an experiment")
def get_runs(
    experiment_id: UUID,
    session: ReadingDep,
    status: RunStatus | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[RunRead]:
    """List the runs in the order of the grid."""
    get_experiment(session, experiment_id)
    return list_runs(session, experiment_id, status, limit, cursor)


@router.get("/{experiment_id}/comparison", operation_id="experiments_comparison", summary="What the runs say")
def get_comparison(experiment_id: UUID, session: ReadingDep) -> ComparisonRead:
    """Medians, intervals, paired ratios against the baseline and backward gain."""
    return read_comparison(session, experiment_id)


@router.get("/{experiment_id}/manifest", operation_id="experiments_manifest", summary="How to repeat it")
def get_manifest(experiment_id: UUID, session: ReadingDep) -> ManifestRead:
    """Spec with every default, code version, hashes of cells and results."""
    return read_manifest(session, experiment_id)


@router.get(
    "/{experiment_id}/results.{suffix}",
    operation_id="experiments_results",
    summary="One row a run: csv, parquet or ndjson",
    response_class=Response,
)
def get_results(experiment_id: UUID, suffix: ResultFormat, session: ReadingDep) -> Response:
    """Export every run, ended or not."""
    rows = flat_rows(session, experiment_id)
    content, media_type = {
        "csv": (as_csv, "text/csv; charset=utf-8"),
        "parquet": (as_parquet, "application/vnd.apache.parquet"),
        "ndjson": (as_ndjson, "application/x-ndjson"),
    }[suffix]
    name = f"{experiment_id}.{suffix}"
    return Response(
        content(rows),
        media_type=media_type,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@router.get(
    "/{experiment_id}/charts/{name}.vl.json",
    operation_id="experiments_chart",
    summary="A chart as a Vega-Lite spec",
)
def get_chart(
    experiment_id: UUID,
    name: str,
    session: ReadingDep,
    theory: TheoryQuery = False,  # noqa: FBT002
) -> dict[str, Any]:
    """Build a chart from the comparison."""
    return _chart(name, session, experiment_id, theory=theory)


@router.get(
    "/{experiment_id}/charts/{name}.svg",
    operation_id="experiments_chart_svg",
    summary="A chart as SVG",
    response_class=Response,
)
def get_chart_svg(
    experiment_id: UUID,
    name: str,
    session: ReadingDep,
    theory: TheoryQuery = False,  # noqa: FBT002
) -> Response:
    """Draw a chart on the server."""
    svg = chart_svg(_chart(name, session, experiment_id, theory=theory))
    return Response(svg, media_type="image/svg+xml")


@router.get(
    "/{experiment_id}/events",
    operation_id="experiments_events",
    summary="What happened; a live stream under Accept: text/event-stream",
    response_model=Page[EventRead],
)
async def get_events(
    experiment_id: UUID,
    database: DatabaseDep,
    feeds: FeedsDep,
    principal: PrincipalDep,
    accept: Annotated[str, Header()] = "application/json",
    last_event_id: Annotated[str | SkipJsonSchema[None], Header(max_length=30, pattern=r"^\d{1,18}$")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Answer a page of events, or stream them until the experiment ends."""
    await run_in_threadpool(_read, database, experiment_id)
    if "text/event-stream" in accept:
        after = int(last_event_id) if last_event_id is not None else None
        return EventSourceResponse(
            feeds.stream(experiment_id, after, principal.key_id),
            ping=PING_SECONDS,
            shutdown_grace_period=DRAIN_SECONDS,
        )
    after = number_in_cursor(cursor) if cursor is not None else 0
    page = await run_in_threadpool(_events_page, database, experiment_id, after, limit)
    return JSONResponse(page.model_dump(mode="json"))


def _plan(found: ExperimentPlan) -> PlanRead:
    return PlanRead(
        spec_hash=found.spec.content_hash(),
        spec=found.spec,
        cells=len(found.cells),
        reused_cells=found.reused_cells,
        saved_seconds=found.saved_seconds,
        packs=len(found.packs),
        estimated_seconds=found.estimated_seconds,
        estimated_memory_bytes=found.estimated_memory_bytes,
        estimated_flops=found.estimated_flops,
        learners=[
            LearnerPlanRead.model_validate(learner, from_attributes=True) for learner in found.learners
        ],
        warnings=found.warnings,
    )


def _read(database: DatabaseDep, experiment_id: UUID) -> ExperimentRead:
    with database.reading() as session:
        return read_experiment(session, experiment_id)


def _chart(name: str, session: Session, experiment_id: UUID, *, theory: bool) -> dict[str, Any]:
    comparison = read_comparison(session, experiment_id)
    if name not in CHARTS:
        raise ChartNotFoundError(name, sorted(CHARTS))
    spec = ExperimentSpec.model_validate(get_experiment(session, experiment_id).spec) if theory else None
    return build_chart(name, comparison.model_dump(mode="json"), spec)


def _events_page(database: DatabaseDep, experiment_id: UUID, after: int, limit: int) -> Page[EventRead]:
    with database.reading() as session:
        events = events_after(session, experiment_id, after, limit)
    items = [EventRead(id=event.id, name=event.name.value, payload=event.payload) for event in events]
    return Page(items=items, next_cursor=encode_cursor(items[-1].id) if len(items) == limit else None)
