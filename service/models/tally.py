"""What /metrics counts, as changes to be summed: no metric reads the table that it is about."""

from enum import StrEnum

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from service.models.base import Base, Sequence64, words


class TallyName(StrEnum):
    """What is counted; ``label`` is a learner's kind or a queue."""

    RUNS = "runs"
    RUNS_ENDED = "runs_ended"
    RUN_SECONDS = "run_seconds"
    RUN_STEPS = "run_steps"
    RUN_MEGAFLOPS = "run_megaflops"
    SOLVE_SECONDS = "solve_seconds"
    QUEUE_WAIT = "queue_wait"
    EXPIRED = "expired"


class Tally(Base):
    """One change. The sum over all rows of a name and its labels is the count, in any snapshot.

    ``amount`` is in steps, 10⁶ operations or microseconds: integers, since sums of floating-point numbers
    depend on their order, and a counter that falls by a rounding error looks to Prometheus like one that began anew.
    """

    __tablename__ = "tallies"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(Sequence64, primary_key=True, autoincrement=True)
    name: Mapped[TallyName] = mapped_column(words(TallyName))
    label: Mapped[str] = mapped_column(String(100), default="")
    status: Mapped[str] = mapped_column(String(32), default="")
    count: Mapped[int] = mapped_column(BigInteger, default=0)
    amount: Mapped[int] = mapped_column(BigInteger, default=0)
