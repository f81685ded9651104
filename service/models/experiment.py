"""One question, and which runs answer it."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid4

from sqlalchemy import ForeignKey, Index, Integer, String, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from service.models.base import Base, JsonObject, JsonValue, UtcDateTime, words


class ExperimentStatus(StrEnum):
    """Where an experiment stands; derived from its runs by ``service.runs.lifecycle`` alone."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    PARTIALLY_SUCCEEDED = "partially_succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing more will happen."""
        return self not in {
            ExperimentStatus.QUEUED,
            ExperimentStatus.RUNNING,
            ExperimentStatus.PAUSED,
            ExperimentStatus.CANCELLING,
        }


class Experiment(Base):
    """An accepted experiment."""

    __tablename__ = "experiments"
    __table_args__ = (
        Index(None, "created_at", "id"),
        Index(None, "status", "created_at", "id"),
        Index(None, "finished_at", "counted_at"),
    )

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, default=uuid4)
    owner: Mapped[str] = mapped_column(String(200))
    name: Mapped[str] = mapped_column(String(200))
    status: Mapped[ExperimentStatus] = mapped_column(words(ExperimentStatus))
    spec: Mapped[JsonObject] = mapped_column(JsonValue)
    spec_hash: Mapped[str] = mapped_column(String(64), index=True)
    code_version: Mapped[str] = mapped_column(String(100))
    run_count: Mapped[int] = mapped_column(Integer)
    runs_by_status: Mapped[JsonObject | None] = mapped_column(
        JsonValue, doc="counts kept by service.runs.run_counts; null: not counted yet"
    )
    reused_runs: Mapped[int | None] = mapped_column(Integer, doc="of them answered before it was asked")
    counted_at: Mapped[datetime | None] = mapped_column(
        UtcDateTime, doc="when the counts were last compared with the runs"
    )
    cancel_requested_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    paused_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ExperimentRun(Base):
    """A run that answers a cell of an experiment; two experiments may share a run."""

    __tablename__ = "experiment_runs"
    __table_args__ = (Index(None, "experiment_id", "position", unique=True),)

    experiment_id: Mapped[UUID] = mapped_column(ForeignKey("experiments.id"), primary_key=True)
    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id"), primary_key=True, index=True)
    position: Mapped[int] = mapped_column(Integer, doc="place in the order of ExperimentSpec.runs()")
