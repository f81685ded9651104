"""Errors of the client, named for the fact. A server's problem+json (RFC 9457) becomes one of them."""

from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError


class SpecError(BaseModel):
    """One thing that is wrong in a document, and where (RFC 6901 pointer as URI fragment, "#/n/0")."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pointer: str = "#"
    code: str = ""
    detail: str = ""


class Problem(BaseModel):
    """The body of a refused request."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str | None = None
    instance: str | None = None
    code: str = ""
    request_id: str | None = None
    errors: tuple[SpecError, ...] = ()


class BfcClientError(Exception):
    """Anything that the client raises on purpose."""


class InvalidSettings(BfcClientError):
    """An environment variable of the client holds nonsense."""


class InvalidSpec(BfcClientError):
    """A spec that was refused before it was sent; ``errors`` says where and why."""

    def __init__(self, errors: tuple[SpecError, ...]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{error.pointer}: {error.detail}" for error in errors))


class ServerNotFound(BfcClientError):
    """No address was given and no stack runs here."""


class ServerUnreachable(BfcClientError):
    """The address does not answer, after all retries."""

    def __init__(self, url: str, cause: str) -> None:
        self.url = url
        super().__init__(f"{url} does not answer: {cause}")


class UnexpectedAnswer(BfcClientError):
    """Something answered, but not as this API does."""


class DamagedDownload(BfcClientError):
    """A file did not arrive as the server says it is, in any attempt; nothing was kept of it."""


class WaitTimedOut(BfcClientError):
    """The experiment is still at work after the time that was allowed for waiting."""


class MissingPackage(BfcClientError):
    """A conversion needs a package that is not installed."""


class BfcApiError(BfcClientError):
    """The server refused; ``problem`` is its answer, ``errors`` its list of places in the body."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.status = problem.status
        self.code = problem.code
        self.errors = problem.errors
        self.request_id = problem.request_id
        sentence = problem.detail or problem.title or f"status {problem.status}"
        places = "".join(f"; {error.pointer}: {error.detail}" for error in problem.errors)
        super().__init__(sentence + places)


class BadRequest(BfcApiError):
    """400: the request could not be read."""


class NotAllowed(BfcApiError):
    """401, 403: the token is missing, unknown or lacks the scope."""


class NotFound(BfcApiError):
    """404: there is no such thing."""


class Conflict(BfcApiError):
    """409: the thing is in a state that does not allow this."""


class BodyTooLarge(BfcApiError):
    """413: the body is over the limit."""


class Unprocessable(BfcApiError):
    """422: the body was read and refused; ``errors`` names the places."""


class TooManyRequests(BfcApiError):
    """429: slower, still after all retries."""


class ServerFailed(BfcApiError):
    """5xx: the server's own fault, still after all retries."""


_BY_STATUS: dict[int, type[BfcApiError]] = {
    400: BadRequest,
    401: NotAllowed,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    413: BodyTooLarge,
    422: Unprocessable,
    429: TooManyRequests,
}
_FIRST_SERVER_STATUS = 500


def error_of(response: httpx.Response) -> BfcApiError:
    """The typed error of a refusal, also where something else than this API (a proxy) answered."""
    try:
        content: Any = response.json()
        problem = Problem.model_validate(content if isinstance(content, dict) else {})
    except (ValueError, ValidationError):
        problem = Problem()
    updates: dict[str, object] = {"status": response.status_code}
    if not problem.title:
        updates["title"] = f"{response.status_code} {response.reason_phrase}".strip()
    problem = problem.model_copy(update=updates)
    fallback = ServerFailed if response.status_code >= _FIRST_SERVER_STATUS else BfcApiError
    return _BY_STATUS.get(response.status_code, fallback)(problem)
