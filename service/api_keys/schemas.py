"""Bodies of the key endpoints."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.models import Scope

Words = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class ApiKeyCreate(BaseModel):
    """A key to be made."""

    model_config = ConfigDict(extra="forbid")

    name: Words
    owner: Words
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=3)]
    expires_in_days: Annotated[float, Field(gt=0, le=3650)] | None = None
    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    live_runs_limit: Annotated[int, Field(ge=0, le=100_000_000)] | None = Field(
        default=None, description="runs of the owner that may be queued or running at a time"
    )
    daily_seconds_limit: Annotated[float, Field(ge=0, le=1e12)] | None = Field(
        default=None, description="compute seconds of the owner in 24 hours, what is queued included"
    )


class ApiKeyRead(BaseModel):
    """A key without its secret."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    owner: str
    scopes: list[Scope]
    requests_per_minute: int | None
    live_runs_limit: int | None
    daily_seconds_limit: float | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class ApiKeyIssued(ApiKeyRead):
    """A new key; the only answer that ever has its secret."""

    secret: str


class ApiKeyRotate(BaseModel):
    """How long the old key goes on."""

    model_config = ConfigDict(extra="forbid")

    grace_hours: Annotated[float, Field(ge=0, le=168)] = 24
