"""Who asks, and what they may do.

``auth = "loopback"``: everybody who reaches the loopback address is the owner ``local`` and may do everything.
``auth = "keys"``: every request under /v1 needs a key, ``Authorization: Bearer bfc_…``. Reading needs the scope
``read``, everything else ``submit``, keys themselves ``admin``. A key writes to its owner's things alone; reading
is common to all who share a deployment.
"""

import ipaddress
import threading
import time
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import Scope as ConnectionScope

from service.api_keys import repository
from service.config import Settings
from service.database import Database, database_now
from service.dependencies import DatabaseDep, SettingsDep
from service.errors import KeyMissingError, NotTheOwnerError, RateLimitedError, ScopeMissingError
from service.models import ApiKey, Scope

LOCAL_OWNER = "local"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_BEARER = "bearer "
_LONGEST_SECRET = 200
_USED_SECONDS = 60.0


@dataclass(frozen=True)
class Principal:
    """Whoever a request comes from."""

    owner: str
    scopes: frozenset[Scope]
    key_id: UUID | None = None
    live_runs_limit: int | None = None
    daily_seconds_limit: float | None = None

    def may(self, scope: Scope) -> bool:
        """Whether the scope is among theirs."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def check_owns(self, owner: str) -> None:
        """Raise unless a thing of ``owner`` may be changed.

        Raises:
            NotTheOwnerError: it belongs to somebody else.
        """
        if owner != self.owner and not self.may(Scope.ADMIN):
            raise NotTheOwnerError


LOCAL = Principal(LOCAL_OWNER, frozenset(Scope))


class KeyUse:
    """What a process remembers of the keys it has seen: how fast they ask, and when that was written down."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._allowance: dict[UUID, tuple[float, float]] = {}
        self._written: dict[UUID, float] = {}

    def take(self, key: ApiKey) -> float:
        """Take one request from the key's allowance; seconds to wait where it is empty, else 0."""
        if key.requests_per_minute is None:
            return 0.0
        rate, now = key.requests_per_minute / 60, time.monotonic()
        with self._lock:
            left, seen = self._allowance.get(key.id, (float(key.requests_per_minute), now))
            left = min(float(key.requests_per_minute), left + (now - seen) * rate)
            is_allowed = left >= 1
            self._allowance[key.id] = (left - 1 if is_allowed else left, now)
        return 0.0 if is_allowed else (1 - left) / rate

    def is_worth_writing(self, key_id: UUID) -> bool:
        """Whether the last use was written down so long ago that this one should be."""
        now = time.monotonic()
        with self._lock:
            if now - self._written.get(key_id, float("-inf")) < _USED_SECONDS:
                return False
            self._written[key_id] = now
            return True


def authorize(request: Request, settings: SettingsDep, database: DatabaseDep) -> None:
    """Find out who asks and whether they may; every router under /v1 depends on it.

    Raises:
        KeyMissingError: no key, or one that is unknown, expired or revoked.
        ScopeMissingError: the key may not do this.
        RateLimitedError: the key asks too fast.
    """
    principal = LOCAL if settings.auth == "loopback" else _of_key(request, database)
    needed = needed_scope(request.method, request.url.path)
    if not principal.may(needed):
        raise ScopeMissingError(needed)
    request.state.principal = principal


def needed_scope(method: str, path: str) -> Scope:
    """Answer the scope that an operation asks for."""
    if path.startswith("/v1/api-keys"):
        return Scope.ADMIN
    return Scope.READ if method in _SAFE else Scope.SUBMIT


def _principal(request: Request) -> Principal:
    principal: Principal = request.state.principal
    return principal


PrincipalDep = Annotated[Principal, Depends(_principal)]


def why_refused_without_keys(scope: ConnectionScope, host: str | None, origin: str | None) -> str | None:
    """Why a request may not be answered where there are no keys; None where it may.

    The address that it came in by must be loopback, however the server was started. The name it was sent to must
    be this machine's, or a page elsewhere could reach us by a name of its own that it points here (rebinding);
    and a request that a browser sends for such a page names that page as its origin.
    """
    address = (scope.get("server") or ("", None))[0]
    if not is_loopback(address):
        return "without API keys this server answers on the loopback address only; set BFC_AUTH=keys"
    if host is not None and not is_loopback(_host_name(host)):
        return "the Host header does not name this machine"
    if origin is not None and origin != "null" and not is_loopback(_host_name(origin.partition("://")[2])):
        return "a page of another site may not use this server"
    return None


def is_loopback(host: str) -> bool:
    """Whether a name or address means this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_bind(settings: Settings, host: str) -> None:
    """Refuse to start where everybody could do everything.

    Raises:
        ValueError: there are no keys and ``host`` is not loopback.
    """
    if settings.auth == "loopback" and not is_loopback(host):
        raise ValueError(
            f"refusing to listen on {host} without API keys: set BFC_AUTH=keys and make the first key with "
            "`python -m service.api_keys create --owner NAME`, or listen on 127.0.0.1"
        )


def _of_key(request: Request, database: Database) -> Principal:
    given = request.headers.get("authorization", "")
    secret = given[len(_BEARER) :].strip()
    if not given.lower().startswith(_BEARER) or not 0 < len(secret) <= _LONGEST_SECRET:
        raise KeyMissingError
    use: KeyUse = request.app.state.key_use
    with database.reading() as session:
        key = repository.find(session, secret)
    if key is None:
        raise KeyMissingError
    if (wait := use.take(key)) > 0:
        raise RateLimitedError(wait)
    if use.is_worth_writing(key.id):
        _write_use(database, key.id)
    return Principal(
        key.owner,
        frozenset(Scope(scope) for scope in key.scopes),
        key.id,
        key.live_runs_limit,
        key.daily_seconds_limit,
    )


def _write_use(database: Database, key_id: UUID) -> None:
    try:
        with database.writing() as session:
            session.get_one(ApiKey, key_id).last_used_at = database_now(session)
    except SQLAlchemyError:  # a note for people; no request fails for it
        return


def _host_name(host: str) -> str:
    """The name in ``name:port``, ``[::1]:port`` or either without a port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
