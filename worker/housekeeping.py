"""What a worker does beside training: show itself, take over from the dead, delete files of ended packs."""

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from service.config import Settings
from service.database import Database, database_now
from service.jobs import Publisher
from service.models import Pack, PackStatus, Worker
from service.runs import lifecycle
from service.runs.cell import code_version
from worker.pack_folder import delete_packs, packs_on_disk
from worker.slots import WorkerSlot

_SWEEP_SECONDS = 60.0


class Housekeeping:
    """Called from the reconciler's thread."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        publisher: Publisher,
        slot: WorkerSlot,
        fenced_writes: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._database = database
        self._publisher = publisher
        self._slot = slot
        self._fenced_writes = fenced_writes
        self._has_taken_over = False
        self._next_sweep = 0.0

    def begin(self) -> None:
        """Take over from this slot's predecessor; with the database away the next tick does it."""
        with suppress(DBAPIError):
            self.tick()

    def tick(self) -> None:
        """Do everything once."""
        if not self._has_taken_over:
            self._take_over(self._slot.predecessors)
            self._has_taken_over = True
        for prefix, lock in self._slot.take_dead():
            try:
                self._take_over(prefix)
            finally:
                lock.release()
        self._show()
        if time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + _SWEEP_SECONDS
            self._sweep()

    def end(self) -> None:
        """Say that this worker is gone."""
        with suppress(DBAPIError), self._database.writing() as session:
            row = session.get(Worker, self._slot.worker_id)
            if row is not None:
                row.stopped_at = database_now(session)

    def _take_over(self, prefix: str) -> None:
        with self._database.writing() as session:
            wakeups = lifecycle.take_over(
                session, prefix, self._settings.crash_limit, mine=self._slot.worker_id
            )
        self._publisher.publish(wakeups)

    def _show(self) -> None:
        with self._database.writing() as session:
            now = database_now(session)
            row = session.get(Worker, self._slot.worker_id)
            if row is None:
                row = Worker(
                    id=self._slot.worker_id,
                    hostname=socket.gethostname(),
                    pid=os.getpid(),
                    queue=self._settings.queue,
                    device=self._settings.device,
                    concurrency=self._settings.concurrency,
                    version=code_version(),
                    kernel_memory_limit_bytes=self._settings.kernel_memory_limit_bytes,
                    heartbeat_seconds=self._settings.heartbeat_interval.total_seconds(),
                    started_at=now,
                )
                session.add(row)
            row.heartbeat_at = now
            row.fenced_writes = self._fenced_writes()

    def _sweep(self) -> None:
        kept = packs_on_disk(self._settings.data_dir)
        if not kept:
            return
        with self._database.reading() as session:
            ended = session.scalars(
                select(Pack.id).where(
                    Pack.id.in_(kept), Pack.status.not_in([PackStatus.QUEUED, PackStatus.RUNNING])
                )
            ).all()
        delete_packs(self._settings.data_dir, ended)
