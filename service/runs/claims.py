"""What the owner of a claim may write while it lasts: heartbeat, progress, checkpoints, measurements.

Every write begins with an UPDATE guarded by ``fence = mine AND status = running``. It takes the pack's row for
the transaction and answers whether the claim still holds; 0 rows mean that somebody else owns the pack.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from bfc_core.specs import Point, RunSpec
from service import models
from service.database import database_now
from service.models import Pack, PackStatus, Run, RunStatus
from service.runs.settlement import settle_progress

# In the drivers' own words: SQLAlchemy looks at every value of every row, which costs half as much again as storing it.
_INSERT_EACH = """
    INSERT INTO measurements (run_id, fence, name, step, stage, level, value) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING
"""

# One statement with an array a column: a statement a row, even pipelined, costs a pack of curves 50 ms. The arrays are
# binary (b), since as text both sides would write and read every number in decimals.
_INSERT_ARRAYS = """
    INSERT INTO measurements (run_id, fence, name, step, stage, level, value)
    SELECT run_id, %(fence)s, name, step, stage, level, value FROM unnest(
        %(run_id)b::uuid[], %(name)b::varchar[], %(step)b::bigint[],
        %(stage)b::varchar[], %(level)b::integer[], %(value)b::double precision[]
    ) AS point (run_id, name, step, stage, level, value)
    ON CONFLICT DO NOTHING
"""


class FencedError(Exception):
    """The claim is over: the pack was reaped, cancelled or finished, and may belong to somebody else."""

    def __init__(self, pack_id: int, fence: int) -> None:
        self.pack_id = pack_id
        self.fence = fence
        super().__init__(f"pack {pack_id} is no longer held under fence {fence}")


class UnreadablePackError(Exception):
    """A waiting pack asks for what this code does not know: a newer version accepted it. Nothing was claimed."""

    def __init__(self, pack_id: int, cause: str) -> None:
        self.pack_id = pack_id
        self.cause = cause
        super().__init__(f"pack {pack_id} was accepted by another version: {cause}")


@dataclass(frozen=True)
class ClaimedRun:
    """One live run of a claimed pack."""

    id: UUID
    spec: RunSpec


@dataclass(frozen=True)
class Claim:
    """The right to execute a pack, until the lease runs out. ``runs`` is the order for ``execute_pack``."""

    pack_id: int
    fence: int
    attempt: int
    experiment_id: UUID
    runs: tuple[ClaimedRun, ...]
    is_ahead: bool = False
    """Whether it was claimed to wait for another pack of its slot."""

    @property
    def run_ids(self) -> tuple[UUID, ...]:
        """Ids in the order of ``runs``."""
        return tuple(run.id for run in self.runs)


@dataclass(frozen=True)
class AnnouncedArtifact:
    """A file of a run that is about to be written to the store, under ``key``."""

    run_id: UUID
    name: str
    key: str
    media_type: str
    sha256: str
    size_bytes: int


Asked = tuple[datetime | None, datetime | None]
"""When a pack's runs were asked to stop, and when its experiment was paused."""


def guard(session: Session, claim: Claim, now: datetime, **values: Any) -> Asked:  # noqa: ANN401 - column values
    """Hold the claimed pack's row for this transaction, set ``values``, and answer what others ask of its owner.

    Raises:
        FencedError: the claim is over; nothing was written.
    """
    held = session.execute(
        update(Pack)
        .where(Pack.id == claim.pack_id, Pack.fence == claim.fence, Pack.status == PackStatus.RUNNING)
        .values(heartbeat_at=now, **values)
        .returning(Pack.cancel_requested_at, Pack.held_at)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if held is None:
        raise FencedError(claim.pack_id, claim.fence)
    return held[0], held[1]


def held_pack(session: Session, claim: Claim, now: datetime) -> Pack:
    """Hold the claimed pack's row and read it.

    Raises:
        FencedError: the claim is over.
    """
    guard(session, claim, now)
    return session.get_one(Pack, claim.pack_id, populate_existing=True)


@dataclass(frozen=True)
class News:
    """What an attempt has to tell: numbers, the newest checkpoint (step, uri, SHA-256), the newest (step, steps)."""

    measurements: Sequence[tuple[UUID, Point]] = ()
    checkpoint: tuple[int, str, str] | None = None
    progress: tuple[int, int] | None = None


@dataclass(frozen=True)
class Wishes:
    """What others want of a claim's owner: runs that shall stop; and whether the experiment was paused."""

    cancelled: frozenset[UUID]
    is_held: bool


def record(
    session: Session,
    claim: Claim,
    news: News,
    lease: timedelta | None = None,
    *,
    is_waiting: bool = False,
    is_last: bool = False,
) -> Wishes:
    """Store all of it under one guard, and renew the lease where one is given.

    Args:
        is_waiting: the pack still waits for another one of its slot; said where a lease is renewed.
        is_last: the claim ends in this very transaction, which says more to those who wait than its progress does.

    Returns:
        What ``wishes`` would answer: nobody can ask for anything else before this transaction ends.

    Raises:
        FencedError: the claim is over.
    """
    now = database_now(session)
    values: dict[str, Any] = {}
    if lease is not None:
        values |= {"lease_until": now + lease, "claimed_ahead": is_waiting}
    if news.checkpoint is not None:
        names = ("checkpoint_step", "checkpoint_uri", "checkpoint_sha256")
        values |= zip(names, news.checkpoint, strict=True)
    if news.progress is not None:
        values |= zip(("step", "steps"), news.progress, strict=True)
        values["claimed_ahead"] = False
    asked = guard(session, claim, now, **values)
    _insert_measurements(session, claim, news.measurements)
    if news.progress is not None and not is_last:
        settle_progress(session, now, (claim.pack_id, claim.fence), claim.run_ids, news.progress)
    return _wishes(session, claim, asked)


def _insert_measurements(session: Session, claim: Claim, measurements: Sequence[tuple[UUID, Point]]) -> None:
    if not measurements:
        return
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        rows = [(run_id.hex, claim.fence, *point) for run_id, point in measurements]
        connection.exec_driver_sql(_INSERT_EACH, rows)
    else:
        columns = zip(*((run_id, *point) for run_id, point in measurements), strict=True)
        names = ("run_id", "name", "step", "stage", "level", "value")
        arrays = {name: list(column) for name, column in zip(names, columns, strict=True)}
        connection.exec_driver_sql(_INSERT_ARRAYS, {"fence": claim.fence, **arrays})


def announce_artifacts(session: Session, claim: Claim, artifacts: Sequence[AnnouncedArtifact]) -> list[str]:
    """Store that these files will be written; they are seen when the claim's reports are.

    Returns:
        Keys that nothing leads to any more: a run that was moved to a pack of its own begins again at the first
        fence, and what it announced in its former pack gives way.

    Raises:
        FencedError: the claim is over.
    """
    now = database_now(session)
    guard(session, claim, now)
    keys = {artifact.key for artifact in artifacts}
    replaced = session.scalars(
        select(models.Artifact.uri).where(
            models.Artifact.run_id.in_([artifact.run_id for artifact in artifacts]),
            models.Artifact.fence == claim.fence,
            models.Artifact.published_at.is_(None),
            models.Artifact.uri.not_in(keys),
        )
    ).all()
    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    insert = dialect.insert(models.Artifact)
    session.execute(
        insert.on_conflict_do_update(
            index_elements=["run_id", "fence", "name"],
            set_={name: insert.excluded[name] for name in ("uri", "sha256", "size_bytes", "created_at")},
            where=models.Artifact.published_at.is_(None),
        ),
        [
            {
                "run_id": artifact.run_id,
                "fence": claim.fence,
                "name": artifact.name,
                "uri": artifact.key,
                "media_type": artifact.media_type,
                "sha256": artifact.sha256,
                "size_bytes": artifact.size_bytes,
                "created_at": now,
            }
            for artifact in artifacts
        ],
    )
    return list(replaced)


def wishes(session: Session, claim: Claim) -> Wishes:
    """Look at them; one statement where nothing is to be cancelled.

    Raises:
        FencedError: the claim is over.
    """
    found = session.execute(
        select(Pack.cancel_requested_at, Pack.held_at).where(
            Pack.id == claim.pack_id, Pack.fence == claim.fence, Pack.status == PackStatus.RUNNING
        )
    ).one_or_none()
    if found is None:
        raise FencedError(claim.pack_id, claim.fence)
    return _wishes(session, claim, (found[0], found[1]))


def _wishes(session: Session, claim: Claim, asked: Asked) -> Wishes:
    cancel_requested_at, held_at = asked
    cancelled: frozenset[UUID] = frozenset()
    if cancel_requested_at is not None:
        cancelled = frozenset(
            session.scalars(
                select(Run.id).where(
                    Run.id.in_(claim.run_ids), Run.status.in_([RunStatus.CANCELLING, RunStatus.CANCELLED])
                )
            )
        )
    return Wishes(cancelled, held_at is not None)
