"""Every refusal as RFC 9457 problem+json, with one shape for all of them and no trace or path in it."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from service.errors import FieldProblem, ServiceError

logger = logging.getLogger("service")
MEDIA_TYPE = "application/problem+json"


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


def pointer_of(location: tuple[str | int, ...], body: object) -> str:
    """Turn a pydantic location into a JSON pointer into the posted body.

    pydantic inserts the tag of a union ("algorithm_1") and names of validators that stand nowhere in the JSON;
    a step is kept where the body has it, or where it is the last one (a missing field).
    """
    if not location or location[0] != "body":
        return "#/" + "/".join(str(part) for part in location)
    parts: list[str] = []
    place: object = body
    steps = location[1:]
    for position, step in enumerate(steps):
        is_last = position == len(steps) - 1
        in_list = isinstance(place, list) and isinstance(step, int) and step < len(place)
        if in_list or (isinstance(place, dict) and step in place):
            place = place[step]  # type: ignore[index]
        elif isinstance(place, dict) and is_last and place.get("kind") != step:
            place = None
        else:
            continue
        parts.append(str(step).replace("~", "~0").replace("/", "~1"))
    return "#/" + "/".join(parts) if parts else "#"


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
    found = [problem for problem in found if not _is_echo(problem, found)]
    errors = tuple(
        FieldProblem(pointer_of(tuple(problem["loc"]), error.body), problem["type"], problem["msg"])
        for problem in found[:50]
    )
    detail = f"{errors[0].pointer}: {errors[0].detail}"
    if len(found) > 1:
        detail += f" (and {len(found) - 1} more)"
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


def _is_echo(problem: dict[str, Any], found: Sequence[dict[str, Any]]) -> bool:
    """Whether pydantic calls an array too short only because one of its items was refused."""
    location = problem["loc"]
    return problem["type"] == "too_short" and any(
        len(other["loc"]) > len(location) and other["loc"][: len(location)] == location for other in found
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
