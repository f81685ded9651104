"""One number of a run at one step; append-only."""

from uuid import UUID

from sqlalchemy import BigInteger, Double, ForeignKey, Index, Integer, String, Uuid, func
from sqlalchemy.orm import Mapped, mapped_column

from service.models.base import Base, Sequence64


class Measurement(Base):
    """Stored form of ``bfc_core.specs.Measurement``.

    A point of a curve exists once: what an attempt repeats after a resume is the same number.
    """

    __tablename__ = "measurements"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(Sequence64, primary_key=True, autoincrement=True)
    run_id: Mapped[UUID] = mapped_column(Uuid, ForeignKey("runs.id"), index=True)
    fence: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str] = mapped_column(String(100))
    step: Mapped[int] = mapped_column(BigInteger)
    stage: Mapped[str | None] = mapped_column(String(100))
    level: Mapped[int | None] = mapped_column(Integer)
    value: Mapped[float | None] = mapped_column(Double)


# NULLs count as different in a plain unique key on both databases, hence the expressions.
Index(
    "uq_measurements_point",
    Measurement.run_id,
    Measurement.name,
    func.coalesce(Measurement.stage, ""),
    func.coalesce(Measurement.level, 0),
    Measurement.step,
    unique=True,
)
