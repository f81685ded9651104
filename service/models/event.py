"""What happened, in order; the source of the event stream."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from service.models.base import Base, JsonObject, JsonValue, Sequence64, UtcDateTime, words


class EventName(StrEnum):
    """Names as the event stream carries them."""

    RUN_STATE = "run.state"
    RUN_PROGRESS = "run.progress"
    EXPERIMENT_PROGRESS = "experiment.progress"
    PROBLEM = "problem"


class Event(Base):
    """Within one experiment the ids grow in the order of the commits.

    Whoever appends holds the experiment's row, so a reader that has seen an id has seen all before it.
    """

    __tablename__ = "events"
    __table_args__ = (Index(None, "experiment_id", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Sequence64, primary_key=True, autoincrement=True)
    experiment_id: Mapped[UUID] = mapped_column(Uuid, ForeignKey("experiments.id"))
    run_id: Mapped[UUID | None] = mapped_column(Uuid, ForeignKey("runs.id"))
    pack_id: Mapped[int | None] = mapped_column(Sequence64, ForeignKey("packs.id"))
    fence: Mapped[int | None] = mapped_column(BigInteger)
    name: Mapped[EventName] = mapped_column(words(EventName))
    payload: Mapped[JsonObject] = mapped_column(JsonValue)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
