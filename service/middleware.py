"""What surrounds every request: an id, a limit on the body, security headers and one log line."""

import asyncio
import json
import logging
import time
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import telemetry
from service.auth import why_refused_without_keys
from service.error_handlers import defect_response, problem_response
from service.metrics import Metrics

logger = logging.getLogger("service.access")

MAX_BODY_BYTES = 2**20
MAX_NESTING = 64
BODY_SECONDS = 30.0
"""How long a body may take to arrive; who sends slower holds a connection for no reason."""
BACKSLASH, QUOTE = ord("\\"), ord('"')

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; "
        "object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class RequestEnvelope:
    """Gives a request its id, bounds its body before anything reads it, and logs how it ended."""

    def __init__(self, app: ASGIApp, *, is_open: bool, metrics: Metrics) -> None:
        """``is_open``: there are no API keys, so only this machine is answered."""
        self.app = app
        self._metrics = metrics
        self._is_open = is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = uuid4().hex
        telemetry.request_id.set(request_id)
        scope.setdefault("state", {})["request_id"] = request_id
        started, status = time.monotonic(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        body, refusal = b"", self._outside(scope)
        if refusal is None:
            body, refusal = await _checked_body(scope, receive)
        if refusal is not None:
            await refusal(scope, receive, answer)
        else:
            try:
                await self.app(scope, _replay(body, receive), answer)
            except Exception:
                logger.exception("request.failed request_id=%s", request_id)
                if status:  # the answer has begun: cutting the connection is all that is left
                    raise
                await defect_response(dict(scope))(scope, receive, answer)
        seconds = time.monotonic() - started
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.answered(scope["method"] if route != "none" else "any", route, status, seconds)
        fields = {
            "request_id": request_id,
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "seconds": round(seconds, 4),
        }
        logger.info("request.answered %s", json.dumps(fields))

    def _outside(self, scope: Scope) -> Response | None:
        if not self._is_open:
            return None
        headers = Headers(scope=scope)
        reason = why_refused_without_keys(scope, headers.get("host"), headers.get("origin"))
        if reason is None:
            return None
        return problem_response(dict(scope), 403, "outside_loopback", "Not from this machine", reason)


async def _checked_body(scope: Scope, receive: Receive) -> tuple[bytes, Response | None]:
    """Read the body; what cannot be taken, and the answer to it, where there is a reason to refuse it."""

    def refused(status: int, code: str, title: str, detail: str) -> tuple[bytes, Response]:
        return b"", problem_response(dict(scope), status, code, title, detail)

    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _bounded_body(receive)
    except TimeoutError:
        detail = f"the body did not arrive within {BODY_SECONDS:g} seconds"
        return refused(408, "body_too_slow", "Request Timeout", detail)
    if body is None:
        return refused(413, "body_too_large", "Body too large", f"a body may have {MAX_BODY_BYTES} bytes")
    if _nests_too_deeply(body):
        detail = f"the body nests deeper than {MAX_NESTING} levels"
        return refused(400, "json_too_deep", "Malformed JSON", detail)
    if body and not _is_json(scope):
        detail = "a body must be JSON: send it with Content-Type: application/json"
        return refused(415, "media_type_unsupported", "Unsupported Media Type", detail)
    return body, None


async def _bounded_body(receive: Receive) -> bytes | None:
    """Read the whole body, chunked or not; None where it is too long."""
    body = bytearray()  # a body of a million one-byte chunks must not be copied a million times
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _is_json(scope: Scope) -> bool:
    media_type = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )


def _nests_too_deeply(body: bytes) -> bool:
    """Whether brackets outside strings nest beyond the limit; keeps a hostile body from the parser's stack."""
    if body.count(b"[") + body.count(b"{") <= MAX_NESTING:
        return False
    depth, quoted, escaped = 0, False, False
    for byte in body:
        if escaped:
            escaped = False
        elif quoted and byte == BACKSLASH:
            escaped = True
        elif quoted:
            quoted = byte != QUOTE
        elif byte == QUOTE:
            quoted = True
        elif byte in b"[{":
            depth += 1
            if depth > MAX_NESTING:
                return True
        elif byte in b"]}":
            depth -= 1
    return False


def _replay(body: bytes, receive: Receive) -> Receive:
    """Hand the body out once, then whatever the connection says (a disconnect)."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
