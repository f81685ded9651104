"""Runs that are trained together: the queue, and the outbox of wake-up messages."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    and_,
    false,
    literal_column,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from service.models.base import Base, Sequence64, UtcDateTime, only_where, words


class PackStatus(StrEnum):
    """Where a pack stands. A pack that was split lives on in its single runs' packs."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SPLIT = "split"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing more will happen to this row."""
        return self not in {PackStatus.QUEUED, PackStatus.RUNNING}


class Pack(Base):
    """One row is one job. ``fence`` only grows; every write of an attempt is guarded by it."""

    __tablename__ = "packs"
    __table_args__ = (
        # In the order of the claims, so that one reads one row; PostgreSQL counts on it without looking at the rows.
        Index(
            "ix_packs_waiting",
            "queue",
            text("priority DESC"),
            "id",
            "run_after",
            "estimated_seconds",
            **only_where("status = 'queued' AND held_at IS NULL"),
        ),
        Index(None, "status", "lease_until"),
        # In the order in which wake-ups are sent again; packs of paused experiments are not in it.
        Index(
            "ix_packs_due",
            "queue",
            "publish_at",
            "id",
            **only_where("status = 'queued' AND held_at IS NULL"),
        ),
        # Few at any time, however many packs an experiment has.
        Index(
            "ix_packs_begun", "experiment_id", **only_where("started_at IS NOT NULL AND finished_at IS NULL")
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Sequence64, primary_key=True, autoincrement=True)
    experiment_id: Mapped[UUID] = mapped_column(ForeignKey("experiments.id"), index=True)
    queue: Mapped[str] = mapped_column(String(100))
    priority: Mapped[int] = mapped_column(Integer, default=0)
    status: Mapped[PackStatus] = mapped_column(words(PackStatus))
    members: Mapped[int] = mapped_column(Integer, doc="number of runs")
    estimated_seconds: Mapped[float] = mapped_column(Double)
    estimated_memory_bytes: Mapped[int] = mapped_column(BigInteger)
    fence: Mapped[int] = mapped_column(BigInteger, default=0)
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    crash_count: Mapped[int] = mapped_column(
        Integer, default=0, doc="crashes since the checkpoint last moved"
    )
    crash_step: Mapped[int] = mapped_column(BigInteger, default=0, doc="checkpoint step at the last crash")
    crash_limit: Mapped[int | None] = mapped_column(
        Integer,
        doc="of the worker that claimed it last; whoever reaps the pack counts to this, not to its own",
    )
    worker_id: Mapped[str | None] = mapped_column(String(200))
    claimed_ahead: Mapped[bool] = mapped_column(
        Boolean,
        default=False,
        server_default=false(),
        doc="another pack of the slot goes first, and this one has not begun: its owner's death is no crash of it",
    )
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    heartbeat_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    held_at: Mapped[datetime | None] = mapped_column(
        UtcDateTime, doc="its experiment is paused: not to be claimed"
    )
    run_after: Mapped[datetime] = mapped_column(UtcDateTime)
    publish_at: Mapped[datetime] = mapped_column(
        UtcDateTime, doc="when the reconciler sends the next wake-up"
    )
    publish_count: Mapped[int] = mapped_column(Integer, default=0)
    published_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    step: Mapped[int] = mapped_column(BigInteger, default=0)
    steps: Mapped[int] = mapped_column(BigInteger, default=0, doc="0 until the first progress is known")
    checkpoint_step: Mapped[int] = mapped_column(BigInteger, default=0)
    checkpoint_uri: Mapped[str | None] = mapped_column(Text)
    checkpoint_sha256: Mapped[str | None] = mapped_column(String(64))
    cancel_requested_at: Mapped[datetime | None] = mapped_column(
        UtcDateTime, doc="some or all runs shall stop"
    )
    error_code: Mapped[str | None] = mapped_column(String(100))
    error_text: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


def is_waiting() -> ColumnElement[bool]:
    """Whether a pack waits to be claimed, said as the index says it: with the word itself, not a parameter."""
    return and_(Pack.status == literal_column("'queued'"), Pack.held_at.is_(None))
