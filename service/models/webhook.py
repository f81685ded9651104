"""An address that is told when an experiment has ended."""

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import ForeignKey, Integer, Text, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from service.models.base import Base, UtcDateTime


class Webhook(Base):
    """One address of one experiment. Its secret is derived from the deployment's and its id, and stands nowhere."""

    __tablename__ = "webhooks"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, default=uuid4)
    experiment_id: Mapped[UUID] = mapped_column(Uuid, ForeignKey("experiments.id"), index=True)
    url: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    next_at: Mapped[datetime | None] = mapped_column(
        UtcDateTime, index=True, doc="not called before; null once it was called, or given up"
    )
    delivered_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    error: Mapped[str | None] = mapped_column(Text, doc="why the last call did not succeed")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
