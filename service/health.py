"""/healthz: the process answers. /readyz: whether work that is accepted now will be done."""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from migrations.current import current_revision
from migrations.newest import newest_revision
from service.config import Settings
from service.database import Database, database_now
from service.dependencies import DatabaseDep, PublisherDep, SettingsDep, StoreDep
from service.jobs import Publisher
from service.models import Worker
from service.store.base import Store, StoreUnavailableError
from service.store.opening import probe

router = APIRouter(tags=["health"])

WORKER_SILENCE = 3
"""Heartbeats that a worker may miss before it counts as gone."""


STORE_CHECK_SECONDS = 15.0


class Liveness(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Check(BaseModel):
    """One thing that work depends on."""

    ok: bool
    detail: str
    warning: str | None = None


class Readiness(BaseModel):
    """Ready when every check is."""

    status: Literal["ready", "not_ready"]
    checks: dict[str, Check]


@router.get("/healthz", operation_id="health_live", summary="The process answers")
def get_health() -> Liveness:
    """Answer without asking anybody else."""
    return Liveness()


@router.get(
    "/readyz",
    operation_id="health_ready",
    summary="Database, migrations, broker, store and workers",
    responses={503: {"model": Readiness, "description": "Something that work depends on is away"}},
)
def get_readiness(
    settings: SettingsDep, database: DatabaseDep, publisher: PublisherDep, store: StoreDep, response: Response
) -> Readiness:
    """Say what is there and what is not; 503 where anything is missing."""
    checks = {"database": _database_check(database)}
    if checks["database"].ok:
        checks["migrations"] = _migrations_check(database)
    if all(check.ok for check in checks.values()):
        checks["workers"] = _workers_check(database, settings)
    checks["broker"] = _broker_check(publisher, settings.queue)
    checks["store"] = _store_check(store)
    ready = all(check.ok for check in checks.values())
    response.status_code = 200 if ready else 503
    return Readiness(status="ready" if ready else "not_ready", checks=checks)


def _database_check(database: Database) -> Check:
    try:
        with database.reading() as session:
            session.execute(select(1))
    except SQLAlchemyError:
        return Check(ok=False, detail="the database does not answer")
    return Check(ok=True, detail=database.engine.dialect.name)


def _migrations_check(database: Database) -> Check:
    found, needed = current_revision(database), newest_revision()
    if found == needed:
        return Check(ok=True, detail=f"at {found}")
    return Check(
        ok=False, detail=f"the database is at {found}, this version needs {needed}: python -m migrations"
    )


def _workers_check(database: Database, settings: Settings) -> Check:
    with database.reading() as session:
        silence: timedelta = WORKER_SILENCE * settings.heartbeat_interval
        alive = session.scalars(
            select(Worker).where(
                Worker.heartbeat_at >= database_now(session) - silence, Worker.stopped_at.is_(None)
            )
        ).all()
    if alive:
        return Check(ok=True, detail=f"{len(alive)} alive", warning=_disagreement(alive, settings))
    return Check(ok=False, detail="no worker has shown itself; accepted work waits until one does")


def _disagreement(workers: Sequence[Worker], settings: Settings) -> str | None:
    """What this API plans with and a worker does otherwise; None where they agree."""
    warnings = []
    planned = settings.pack_memory_limit_bytes
    limits = {worker.pack_memory_limit_bytes for worker in workers} - {None, planned}
    if limits:
        sizes = ", ".join(f"{limit / 2**30:.3g}" for limit in sorted(limit or 0 for limit in limits))
        warnings.append(
            f"plans are made for {planned / 2**30:.3g} GiB a pack, workers allow {sizes}: set "
            "BFC_PACK_MEMORY_LIMIT_BYTES alike, or runs fail that were accepted"
        )
    here = settings.heartbeat_interval.total_seconds()
    rhythms = {worker.heartbeat_seconds for worker in workers} - {None, here}
    if any(rhythm is not None and rhythm > here for rhythm in rhythms):
        warnings.append(
            f"workers show themselves less often than the {here:g} seconds expected here: set "
            "BFC_HEARTBEAT_INTERVAL alike, or living workers count as gone"
        )
    return "; ".join(warnings) or None


def _broker_check(publisher: Publisher, queue: str) -> Check:
    try:
        waiting = publisher.backlog(queue)
    except Exception:  # noqa: BLE001 - each transport has its own errors; whichever it is, the broker is away
        return Check(ok=False, detail="the broker does not answer; the reconciler will publish when it does")
    return Check(ok=True, detail=f"{waiting} wake-ups waiting")


_probed: dict[str, tuple[float, Check]] = {}


def _store_check(store: Store) -> Check:
    """Write and read the store; asked again only after a while, since balancers ask every few seconds."""
    known = _probed.get(store.place)
    if known is not None and time.monotonic() < known[0]:
        return known[1]
    try:
        probe(store)
        check = Check(ok=True, detail="can be written and read")
    except StoreUnavailableError:
        check = Check(ok=False, detail="the store cannot be written and read")
    _probed[store.place] = (time.monotonic() + STORE_CHECK_SECONDS, check)
    return check
