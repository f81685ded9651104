"""Every refusal as RFC 9457 problem+json, with one shape for all of them and no trace or path in it."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import InternalError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from bfc_core.specs import Fault, faults_from
from service.database import READ_ONLY_TRANSACTION, sql_state
from service.errors import FieldProblem, ServiceError

logger = logging.getLogger("service")
MEDIA_TYPE = "application/problem+json"

_NOT_THERE = frozenset({"42P01", "42703"})
"""PostgreSQL's words for a table and a column that it does not know."""

MOST_FAULTS = 50
"""Named in one answer."""


class ProblemField(BaseModel):
    """One place of the request and what is wrong with it."""

    pointer: str
    code: str
    detail: str


class Problem(BaseModel):
    """RFC 9457, extended by a code for programs, the request's id and the places that are wrong."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: list[ProblemField]
    current: str | None = Field(default=None, description="of a 409: the present status")
    allowed: list[str] | None = Field(default=None, description="of a 409: statuses in which it is possible")


def install_error_handlers(app: FastAPI) -> None:
    """Answer every refusal and every defect as a problem."""
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(OperationalError, _database_away)
    app.add_exception_handler(PoolTimeoutError, _database_away)
    app.add_exception_handler(InternalError, _database_read_only)
    app.add_exception_handler(ProgrammingError, _database_not_migrated)


def problem_response(
    scope: dict[str, Any],
    status: int,
    code: str,
    title: str,
    detail: str,
    errors: tuple[FieldProblem, ...] = (),
    headers: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> JSONResponse:
    """Build the problem for a request's scope; ``facts`` are further members of :class:`Problem`."""
    problem = Problem(
        type=f"urn:bfc:problem:{code}",
        title=title,
        status=status,
        detail=detail,
        instance=scope["path"],
        code=code,
        request_id=scope.get("state", {}).get("request_id", ""),
        errors=[ProblemField(pointer=e.pointer, code=e.code, detail=e.detail) for e in errors],
        **(facts or {}),
    )
    return JSONResponse(problem.model_dump(exclude_none=True), status, media_type=MEDIA_TYPE, headers=headers)


def defect_response(scope: dict[str, Any]) -> JSONResponse:
    """Answer for an exception that nobody expected; the log has what happened."""
    return problem_response(
        scope,
        500,
        "internal_error",
        "Internal error",
        "this is a defect of the service; its log has the details under the request's id",
    )


async def _service_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServiceError)
    return problem_response(
        dict(request.scope),
        error.status_code,
        error.code,
        error.title,
        error.detail,
        error.errors,
        error.headers,
        error.facts,
    )


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(problem["type"] == "json_invalid" for problem in found):
        detail = "the body is not JSON: " + str(found[0].get("ctx", {}).get("error", "it cannot be parsed"))
        return problem_response(dict(request.scope), 400, "json_invalid", "Malformed JSON", detail)
    if any(problem["loc"][0] == "path" for problem in found):
        # An id that is none names nothing, like an id that was never given out.
        return problem_response(
            dict(request.scope), 404, "not_found", "Not Found", "there is nothing at this address"
        )
    faults = _faults(found, error.body)
    detail = f"{faults[0].pointer}: {faults[0].detail}"
    if len(faults) > 1:
        detail += f" (and {len(faults) - 1} more)"
    errors = tuple(FieldProblem(fault.pointer, fault.code, fault.detail) for fault in faults[:MOST_FAULTS])
    return problem_response(
        dict(request.scope), 422, "validation_failed", "The request does not fit its schema", detail, errors
    )


async def _http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    title = HTTPStatus(error.status_code).phrase
    code = title.lower().replace(" ", "_").replace("-", "_")
    if error.status_code == HTTPStatus.BAD_REQUEST:
        code, title = "json_invalid", "Malformed request"
    headers = dict(error.headers) if error.headers else None
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {"Allow": ", ".join(_methods_at(request))}
    return problem_response(
        dict(request.scope), error.status_code, code, title, str(error.detail), headers=headers
    )


async def _database_away(request: Request, error: Exception) -> JSONResponse:
    logger.warning("database.unreachable", exc_info=error)
    return problem_response(
        dict(request.scope),
        503,
        "database_unreachable",
        "Service unavailable",
        "the database does not answer; nothing was changed, try again",
        headers={"Retry-After": "5"},
    )


def _faults(found: Sequence[dict[str, Any]], body: object) -> list[Fault]:
    """Faults of the body by their place in it; those of a parameter as ``#/query/limit``."""
    of_body = [problem | {"loc": problem["loc"][1:]} for problem in found if problem["loc"][0] == "body"]
    elsewhere = [problem for problem in found if problem["loc"][0] != "body"]
    return faults_from(elsewhere, {place: {} for place in ("query", "header")}) + faults_from(of_body, body)


async def _database_read_only(request: Request, error: Exception) -> JSONResponse:
    """A standby, or a server that an operator has made read-only: it will pass. Anything else is a defect."""
    assert isinstance(error, InternalError)
    if sql_state(error) != READ_ONLY_TRANSACTION:
        raise error
    return await _database_away(request, error)


async def _database_not_migrated(request: Request, error: Exception) -> JSONResponse:
    """A table or column of a newer version: the API came before its migrations. Anything else is a defect."""
    assert isinstance(error, ProgrammingError)
    if getattr(error.orig, "sqlstate", None) not in _NOT_THERE:
        raise error
    logger.warning("database.not_migrated", exc_info=error)
    return problem_response(
        dict(request.scope),
        503,
        "database_not_migrated",
        "Service unavailable",
        "the database is not at the version that this service needs, and nothing was changed; /readyz says more",
        headers={"Retry-After": "30"},
    )


def _methods_at(request: Request) -> list[str]:
    """Every method of the request's path; the router itself only names those of the first route that fits."""
    return [
        method
        for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.router.routes
        )
    ]
