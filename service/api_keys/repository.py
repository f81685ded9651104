"""Issuing, finding, rotating and revoking keys. A secret is shown once, when it is made."""

import hashlib
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.database import database_now
from service.errors import ApiKeyNotFoundError
from service.models import ApiKey, Scope

PREFIX = "bfc_"
"""Secrets begin with it, so that a scanner of repositories and logs can tell what it has found."""

_SECRET_BYTES = 32


def issue(
    session: Session,
    *,
    name: str,
    owner: str,
    scopes: Collection[Scope],
    expires_at: datetime | None = None,
    requests_per_minute: int | None = None,
    live_runs_limit: int | None = None,
    daily_seconds_limit: float | None = None,
) -> tuple[ApiKey, str]:
    """Store a new key; the key and its secret, which nobody can read again."""
    secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    key = ApiKey(
        id=uuid4(),
        name=name,
        owner=owner,
        secret_sha256=hash_of(secret),
        scopes=sorted(scope.value for scope in scopes),
        expires_at=expires_at,
        requests_per_minute=requests_per_minute,
        live_runs_limit=live_runs_limit,
        daily_seconds_limit=daily_seconds_limit,
        created_at=database_now(session),
    )
    session.add(key)
    session.flush()
    return key, secret


def find(session: Session, secret: str) -> ApiKey | None:
    """Read the key of a secret, if it is one and still holds."""
    return _if_it_holds(
        session, session.scalar(select(ApiKey).where(ApiKey.secret_sha256 == hash_of(secret)))
    )


def held_key(session: Session, key_id: UUID) -> ApiKey | None:
    """Read a key as it is now, if it is neither revoked nor expired."""
    return _if_it_holds(session, session.get(ApiKey, key_id, populate_existing=True))


def list_keys(session: Session) -> list[ApiKey]:
    """Every key that was ever issued, newest first."""
    return list(session.scalars(select(ApiKey).order_by(ApiKey.created_at.desc(), ApiKey.id)))


def rotate(session: Session, key_id: UUID, grace: timedelta) -> tuple[ApiKey, str]:
    """Issue a key like ``key_id``, which itself goes on for the grace at most.

    Raises:
        ApiKeyNotFoundError: there is no such key, or it is revoked.
    """
    old = _held(session, key_id)
    now = database_now(session)
    new, secret = issue(
        session,
        name=old.name,
        owner=old.owner,
        scopes=[Scope(scope) for scope in old.scopes],
        expires_at=None if old.expires_at is None else now + (old.expires_at - old.created_at),
        requests_per_minute=old.requests_per_minute,
        live_runs_limit=old.live_runs_limit,
        daily_seconds_limit=old.daily_seconds_limit,
    )
    ends = now + grace
    old.expires_at = ends if old.expires_at is None else min(old.expires_at, ends)
    return new, secret


def revoke(session: Session, key_id: UUID) -> None:
    """End a key at once.

    Raises:
        ApiKeyNotFoundError: there is no such key, or it is revoked already.
    """
    _held(session, key_id).revoked_at = database_now(session)


def hash_of(secret: str) -> str:
    """SHA-256 (hex); a secret of 256 random bits needs no salt and no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _if_it_holds(session: Session, key: ApiKey | None) -> ApiKey | None:
    now = database_now(session)
    if key is None or key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
        return None
    return key


def _held(session: Session, key_id: UUID) -> ApiKey:
    key = session.get(ApiKey, key_id, with_for_update=True)
    if key is None or key.revoked_at is not None:
        raise ApiKeyNotFoundError(key_id)
    return key
