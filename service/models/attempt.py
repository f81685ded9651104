"""One claim of a pack, from claim to end."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, ForeignKey, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from service.models.base import Base, Sequence64, UtcDateTime, words


class AttemptOutcome(StrEnum):
    """How an attempt ended; null while it lasts."""

    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    CRASHED = "crashed"
    EXPIRED = "expired"
    RELEASED = "released"


class Attempt(Base):
    """The history of a pack; one row a fence."""

    __tablename__ = "attempts"

    pack_id: Mapped[int] = mapped_column(Sequence64, ForeignKey("packs.id"), primary_key=True)
    fence: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    number: Mapped[int] = mapped_column(Integer)
    worker_id: Mapped[str] = mapped_column(String(200))
    device: Mapped[str] = mapped_column(String(100))
    members: Mapped[int | None] = mapped_column(Integer, doc="runs that it executes together")
    peak_memory_bytes: Mapped[int | None] = mapped_column(
        BigInteger, doc="the most that its process took for all of them; null until it has finished"
    )
    outcome: Mapped[AttemptOutcome | None] = mapped_column(words(AttemptOutcome))
    step: Mapped[int] = mapped_column(BigInteger, default=0)
    error_code: Mapped[str | None] = mapped_column(String(100))
    error_text: Mapped[str | None] = mapped_column(Text)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
