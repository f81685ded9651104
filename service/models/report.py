"""The one result of one run: its key is the run, so a second result cannot exist."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Double, ForeignKey, Text, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from bfc_core.specs import Outcome
from service.models.base import Base, JsonObject, JsonValue, UtcDateTime, words


class Report(Base):
    """Stored form of ``bfc_core.specs.Report``; numbers that are compared are double precision."""

    __tablename__ = "reports"

    run_id: Mapped[UUID] = mapped_column(Uuid, ForeignKey("runs.id"), primary_key=True)
    fence: Mapped[int] = mapped_column(BigInteger, doc="the attempt that won")
    outcome: Mapped[Outcome] = mapped_column(words(Outcome))
    nmse: Mapped[float | None] = mapped_column(Double)
    seconds: Mapped[float] = mapped_column(Double)
    solve_seconds: Mapped[float | None] = mapped_column(Double)
    steps: Mapped[int] = mapped_column(BigInteger)
    flops: Mapped[int | None] = mapped_column(BigInteger)
    metrics: Mapped[JsonObject | None] = mapped_column(
        JsonValue, doc="Metrics as JSON; null where not finite"
    )
    selection: Mapped[JsonObject] = mapped_column(JsonValue)
    warnings: Mapped[list[str]] = mapped_column(JsonValue)
    message: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
