"""One learner on one target at one n, dim and seed."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid4

from sqlalchemy import ForeignKey, Index, Integer, String, Text, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from service.models.base import Base, JsonObject, JsonValue, Sequence64, UtcDateTime, only_where, words


class RunStatus(StrEnum):
    """Where a run stands; changed by ``service.runs.lifecycle`` alone."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    DIVERGED = "diverged"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing more will happen."""
        return self not in {RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.CANCELLING}


class Run(Base):
    """A run. ``experiment_id`` is the experiment that first asked for it; others may link to it.

    ``cell_hash`` names what is computed: the canonical spec and the code version.
    """

    __tablename__ = "runs"
    __table_args__ = (
        Index(None, "pack_id", "member", unique=True),
        # Whose measurements are there, by age.
        Index("ix_runs_measured", "finished_at", **only_where("measurements_deleted_at IS NULL")),
        # What the newest runs of a kind have cost.
        Index("ix_runs_newest", "learner_kind", "finished_at", "id", **only_where("status = 'succeeded'")),
    )

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, default=uuid4)
    experiment_id: Mapped[UUID] = mapped_column(ForeignKey("experiments.id"), index=True)
    pack_id: Mapped[int] = mapped_column(Sequence64, ForeignKey("packs.id"))
    member: Mapped[int] = mapped_column(Integer, doc="place within the pack")
    cell_hash: Mapped[str] = mapped_column(String(64), index=True)
    spec: Mapped[JsonObject] = mapped_column(JsonValue)
    label: Mapped[str] = mapped_column(String(200))
    target_kind: Mapped[str] = mapped_column(String(100))
    learner_kind: Mapped[str] = mapped_column(String(100))
    n: Mapped[int] = mapped_column(Integer)
    dim: Mapped[int] = mapped_column(Integer)
    seed: Mapped[int] = mapped_column(Integer)
    status: Mapped[RunStatus] = mapped_column(words(RunStatus))
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    cancel_requested_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    error_code: Mapped[str | None] = mapped_column(String(100))
    message: Mapped[str | None] = mapped_column(Text, doc="why it did not succeed, for the person who asked")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    measurements_deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
