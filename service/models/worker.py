"""Workers that have shown themselves: information for people, no decision depends on it."""

from datetime import datetime

from sqlalchemy import BigInteger, Double, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from service.models.base import Base, UtcDateTime


class Worker(Base):
    """One worker process."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    hostname: Mapped[str] = mapped_column(String(200))
    pid: Mapped[int] = mapped_column(Integer)
    queue: Mapped[str] = mapped_column(String(100))
    device: Mapped[str] = mapped_column(String(100))
    concurrency: Mapped[int] = mapped_column(Integer)
    version: Mapped[str] = mapped_column(String(100))
    # A worker of the version before writes the column, so its name stays.
    pack_memory_limit_bytes: Mapped[int | None] = mapped_column(
        "kernel_memory_limit_bytes", BigInteger, doc="its settings, to be compared with those of the API"
    )
    heartbeat_seconds: Mapped[float | None] = mapped_column(Double)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    heartbeat_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    fenced_writes: Mapped[int] = mapped_column(
        Integer, default=0, server_default="0", doc="times it found a claim of its own over"
    )
    stopped_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
