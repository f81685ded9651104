"""Answers that were given under an Idempotency-Key."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Integer, String, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from service.models.base import Base, JsonObject, JsonValue, UtcDateTime


class IdempotencyKey(Base):
    """Written in the transaction that stores the experiment: both exist or neither does."""

    __tablename__ = "idempotency_keys"

    owner: Mapped[str] = mapped_column(String(200), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    body_hash: Mapped[str] = mapped_column(String(64))
    experiment_id: Mapped[UUID | None] = mapped_column(Uuid, ForeignKey("experiments.id"))
    status_code: Mapped[int] = mapped_column(Integer)
    answer: Mapped[JsonObject] = mapped_column(JsonValue)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
