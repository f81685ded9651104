"""A search for n*, and the experiments it has asked for."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid4

from sqlalchemy import ForeignKey, Index, Integer, String, Text, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from service.models.base import Base, JsonObject, JsonValue, UtcDateTime, words


class ComplexitySearchStatus(StrEnum):
    """Where a search stands; changed by ``service.complexity_searches.progress`` alone."""

    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing more will happen."""
        return self not in {ComplexitySearchStatus.RUNNING, ComplexitySearchStatus.PAUSED}


class ComplexitySearch(Base):
    """A row is advanced whenever all of its experiments have ended, until nothing more is asked for."""

    __tablename__ = "complexity_searches"
    __table_args__ = (Index(None, "status", "created_at", "id"),)

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, default=uuid4)
    owner: Mapped[str] = mapped_column(String(200))
    name: Mapped[str] = mapped_column(String(200))
    status: Mapped[ComplexitySearchStatus] = mapped_column(words(ComplexitySearchStatus))
    spec: Mapped[JsonObject] = mapped_column(JsonValue)
    rounds: Mapped[int] = mapped_column(Integer, default=0)
    message: Mapped[str | None] = mapped_column(
        Text, doc="why it ended before its aim or is paused, for the person who asked"
    )
    api_key_id: Mapped[UUID | None] = mapped_column(
        Uuid, doc="whose quotas hold for its rounds; null where there are no keys"
    )
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ComplexityRound(Base):
    """One experiment of a search: one learner and dim, at the sizes that were asked for in one round."""

    __tablename__ = "complexity_rounds"

    search_id: Mapped[UUID] = mapped_column(ForeignKey("complexity_searches.id"), primary_key=True)
    experiment_id: Mapped[UUID] = mapped_column(ForeignKey("experiments.id"), primary_key=True, index=True)
    number: Mapped[int] = mapped_column(Integer, doc="1, 2, …")
    learner: Mapped[int] = mapped_column(Integer, doc="index into the spec's learners")
    dim: Mapped[int] = mapped_column(Integer)
