"""HTTP with retries.

Every request may be repeated: reading and cancelling do no harm twice, and what creates carries an
Idempotency-Key.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from bfc_client.errors import InvalidSettings, ServerUnreachable, UnexpectedAnswer, error_of

ATTEMPTS = 5
FIRST_DELAY_SECONDS = 0.25
LONGEST_DELAY_SECONDS = 8.0
LONGEST_RETRY_AFTER_SECONDS = 60.0
CONNECT_TIMEOUT_SECONDS = 5.0
PAGE_SIZE = 100
RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})

Params = Mapping[str, str | int | float | bool]


class Transport:
    """One connection pool to one server."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        timeout_seconds: float = 30.0,
        *,
        attempts: int = ATTEMPTS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = _checked_url(url)
        self._attempts = attempts
        self._sleep = sleep
        self._timeout_seconds = timeout_seconds
        headers = {"Accept": "application/json", "User-Agent": "bfc-client"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx.Timeout(timeout_seconds, connect=min(CONNECT_TIMEOUT_SECONDS, timeout_seconds)),
            # A proxy of the surroundings cannot reach this machine's own loopback address.
            trust_env=not _is_loopback(self.url),
            follow_redirects=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def get_json(self, path: str, params: Params | None = None) -> Any:  # noqa: ANN401 - what JSON holds
        """The decoded body of a GET."""
        return json_of(self.send("GET", path, params=params))

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        extra_seconds: float = 0.0,
        retry: bool = True,
        refusals: bool = True,
    ) -> httpx.Response:
        """An answer below 400 (304 included); with ``refusals=False`` any answer.

        ``extra_seconds`` is how long the server was asked to wait before it answers.

        Raises:
            BfcApiError: the server refused, or kept failing.
            ServerUnreachable: no answer came, in any attempt.
        """
        request = self._http.build_request(
            method, path, params=dict(params or {}), json=json, headers=dict(headers or {})
        )
        request.extensions["timeout"] = httpx.Timeout(
            self._timeout_seconds + extra_seconds, connect=min(CONNECT_TIMEOUT_SECONDS, self._timeout_seconds)
        ).as_dict()
        attempts = self._attempts if retry else 1
        for attempt in range(attempts):
            is_last = attempt == attempts - 1
            try:
                response = self._http.send(request)
            except httpx.TransportError as error:
                if is_last:
                    raise ServerUnreachable(self.url, _sentence_of(error)) from error
                self._sleep(delay_before(attempt))
                continue
            if response.status_code not in RETRIED_STATUSES or is_last:
                if refusals and response.is_error:
                    raise error_of(response)
                return response
            self._sleep(delay_before(attempt, response.headers.get("Retry-After")))
        raise AssertionError("the last attempt returns or raises")

    def pause_before(self, attempt: int) -> None:
        """Rest before attempt number ``attempt`` (from 1) of something that is repeated as a whole."""
        self._sleep(delay_before(attempt - 1))

    def pages(self, path: str, params: Params | None = None) -> Iterator[dict[str, Any]]:
        """Every item of a paged list, fetched page by page as it is asked for."""
        query: dict[str, str | int | float | bool] = {"limit": PAGE_SIZE, **(params or {})}
        while True:
            page = self.get_json(path, query)
            yield from page["items"]
            if page.get("next_cursor") is None:
                return
            query["cursor"] = page["next_cursor"]

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """A GET whose body is read while it arrives; one attempt.

        Raises:
            BfcApiError: the server refused.
            ServerUnreachable: the connection failed, at the start or later.
        """
        try:
            with self._http.stream("GET", path, headers=dict(headers)) as response:
                if response.is_error:
                    response.read()
                    raise error_of(response)
                yield response
        except httpx.TransportError as error:
            raise ServerUnreachable(self.url, _sentence_of(error)) from error


def segment(text: str) -> str:
    """Text as one segment of a path, whatever it holds."""
    return quote(text, safe="") if text.strip(".") else quote(text or " ", safe="").replace(".", "%2E")


def json_of(response: httpx.Response) -> Any:  # noqa: ANN401 - what JSON holds
    """The decoded body.

    Raises:
        UnexpectedAnswer: it is not JSON: something else than this API answered.
    """
    try:
        return response.json()
    except ValueError as error:
        raise UnexpectedAnswer(
            f"{response.request.url} answered something that is not JSON; is it the address of a BFC server?"
        ) from error


def delay_before(attempt: int, retry_after: str | None = None) -> float:
    """Seconds to wait after attempt number ``attempt`` (from 0): what the server asks, else full jitter."""
    asked = _seconds_of(retry_after)
    if asked is not None:
        return min(asked, LONGEST_RETRY_AFTER_SECONDS)
    ceiling = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2**attempt)
    return random.uniform(ceiling / 4, ceiling)  # noqa: S311 - jitter is no secret


def _seconds_of(retry_after: str | None) -> float | None:
    """Retry-After comes as seconds or as a date (RFC 9110 §10.2.3); anything else is ignored."""
    if retry_after is None:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _checked_url(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidSettings(f"{url!r} is not an address: {error}") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise InvalidSettings(f"{url!r} is not an address; write http://host:port")
    return url.rstrip("/")


def _is_loopback(url: str) -> bool:
    host = httpx.URL(url).host
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _sentence_of(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__
