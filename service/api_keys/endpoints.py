"""/v1/api-keys: for admins. The first key comes from the command line, ``python -m service.api_keys``."""

from datetime import timedelta
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from service.api_keys import repository
from service.api_keys.schemas import ApiKeyCreate, ApiKeyIssued, ApiKeyRead, ApiKeyRotate
from service.database import database_now
from service.dependencies import DatabaseDep, ReadingDep, refuse_unknown_parameters
from service.models import ApiKey

router = APIRouter(
    prefix="/v1/api-keys", tags=["api-keys"], dependencies=[Depends(refuse_unknown_parameters)]
)


@router.post("", status_code=201, operation_id="api_keys_create", summary="Make a key")
def create(body: ApiKeyCreate, database: DatabaseDep, response: Response) -> ApiKeyIssued:
    """Make a key; this answer alone has its secret."""
    response.headers["Cache-Control"] = "no-store"
    with database.writing() as session:
        lifetime = None if body.expires_in_days is None else timedelta(days=body.expires_in_days)
        key, secret = repository.issue(
            session,
            name=body.name,
            owner=body.owner,
            scopes=set(body.scopes),
            expires_at=None if lifetime is None else database_now(session) + lifetime,
            requests_per_minute=body.requests_per_minute,
            live_runs_limit=body.live_runs_limit,
            daily_seconds_limit=body.daily_seconds_limit,
        )
        return _issued(key, secret)


@router.get("", operation_id="api_keys_list", summary="Every key, without secrets")
def list_all(session: ReadingDep) -> list[ApiKeyRead]:
    """List keys, newest first, revoked and expired ones too."""
    return [ApiKeyRead.model_validate(key) for key in repository.list_keys(session)]


@router.post("/{key_id}/rotate", status_code=201, operation_id="api_keys_rotate", summary="Replace a key")
def rotate(key_id: UUID, body: ApiKeyRotate, database: DatabaseDep, response: Response) -> ApiKeyIssued:
    """Make a key like this one; the old one goes on for the grace."""
    response.headers["Cache-Control"] = "no-store"
    with database.writing() as session:
        key, secret = repository.rotate(session, key_id, timedelta(hours=body.grace_hours))
        return _issued(key, secret)


@router.delete("/{key_id}", status_code=204, operation_id="api_keys_revoke", summary="End a key at once")
def revoke(key_id: UUID, database: DatabaseDep) -> None:
    """Revoke a key."""
    with database.writing() as session:
        repository.revoke(session, key_id)


def _issued(key: ApiKey, secret: str) -> ApiKeyIssued:
    return ApiKeyIssued(**ApiKeyRead.model_validate(key).model_dump(), secret=secret)
