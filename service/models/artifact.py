"""A file that a run left."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, String, Text, UniqueConstraint, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from service.models.base import Base, Sequence64, UtcDateTime


class Artifact(Base):
    """Where a file lies and what its bytes hash to; a later attempt writes beside, never over it.

    The row is written before the file: whatever lies in the store has a row that leads to its deletion.
    """

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("run_id", "fence", "name"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Sequence64, primary_key=True, autoincrement=True)
    run_id: Mapped[UUID] = mapped_column(Uuid, ForeignKey("runs.id"))
    fence: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str] = mapped_column(String(200))
    uri: Mapped[str] = mapped_column(Text, doc="its key in the store")
    media_type: Mapped[str] = mapped_column(String(100))
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    published_at: Mapped[datetime | None] = mapped_column(
        UtcDateTime,
        doc="when its run's report was stored; until then the file may be half there, and nobody sees it",
    )
