"""Keys of the API. What is kept of a key is its SHA-256: whoever reads this table cannot use one."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid4

from sqlalchemy import Double, Index, Integer, String, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from service.models.base import Base, JsonValue, UtcDateTime


class Scope(StrEnum):
    """What a key may do; ``admin`` may do everything."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


class ApiKey(Base):
    """One key of one owner. Quotas count the owner's work, so that a new key is no new quota."""

    __tablename__ = "api_keys"
    __table_args__ = (Index(None, "owner"),)

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, default=uuid4)
    name: Mapped[str] = mapped_column(String(200))
    owner: Mapped[str] = mapped_column(String(200))
    secret_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]] = mapped_column(JsonValue)
    requests_per_minute: Mapped[int | None] = mapped_column(Integer)
    live_runs_limit: Mapped[int | None] = mapped_column(
        Integer, doc="runs of the owner that may be queued or running"
    )
    daily_seconds_limit: Mapped[float | None] = mapped_column(
        Double, doc="compute seconds of the owner in 24 hours"
    )
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime, doc="to the minute")
