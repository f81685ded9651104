"""What a worker does beside training: show itself, take over from the dead, look after counts, delete what is old."""

import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from service.artifacts.retention import delete_expired
from service.config import Settings
from service.database import Database, database_now
from service.jobs import Publisher
from service.models import Pack, PackStatus, Worker
from service.runs import lifecycle, tallies
from service.runs.cell import code_version
from service.runs.retention import delete_old_measurements
from service.runs.run_counts import unchecked
from service.runs.settlement import repair_counts
from service.store.base import Store, StoreUnavailableError
from service.store.opening import is_shared
from worker.pack_folder import PACKS, delete_packs, packs_on_disk
from worker.slots import WorkerSlot

logger = logging.getLogger(__name__)

_SWEEP_SECONDS = 60.0
STORE_SWEEP_SECONDS = 600.0
CHECK_AGE = timedelta(minutes=10)
"""How old a look at an experiment's runs may be until its counts are compared with them once more."""

_CHECKS_A_SWEEP = 20
_TALLY_CHECK_SECONDS = 3600.0
_BATCH_REST_SECONDS = 0.1
_IDS_A_QUERY = 1000


class Housekeeping:
    """Called from the reconciler's thread."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        publisher: Publisher,
        slot: WorkerSlot,
        store: Store,
        fenced_writes: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._database = database
        self._publisher = publisher
        self._slot = slot
        self._store = store
        self._fenced_writes = fenced_writes
        self._has_taken_over = False
        self._next_sweep = 0.0
        self._next_store_sweep = 0.0
        self._is_ending = threading.Event()
        # Not at once: it reads whole tables, and a worker that has just started has other things to do.
        self._next_tally_check = time.monotonic() + random.SystemRandom().uniform(0, _TALLY_CHECK_SECONDS)

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
        if time.monotonic() >= self._next_store_sweep:
            # Workers sweep one store together: at moments of their own, and what one deletes the others do not find.
            self._next_store_sweep = (
                time.monotonic() + random.SystemRandom().uniform(0.5, 1.5) * STORE_SWEEP_SECONDS
            )
            # In a thread: a store that does not answer shall not keep us from reaping.
            threading.Thread(target=self._sweep_beside, name="sweep", daemon=True).start()

    def end(self) -> None:
        """Say that this worker is gone."""
        self._is_ending.set()
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
                    pack_memory_limit_bytes=self._settings.pack_memory_limit_bytes,
                    heartbeat_seconds=self._settings.heartbeat_interval.total_seconds(),
                    started_at=now,
                )
                session.add(row)
            row.heartbeat_at = now
            row.fenced_writes = self._fenced_writes()

    def _sweep(self) -> None:
        delete_packs(self._settings.data_dir, self._ended(packs_on_disk(self._settings.data_dir)))
        with self._database.writing() as session:
            tallies.fold(session)

    def _sweep_beside(self) -> None:
        try:
            self._check_counts()
            self._sweep_measurements()
        except SQLAlchemyError as error:
            logger.warning("database.not_swept error=%s", type(error).__name__)
        self._sweep_store()

    def _sweep_measurements(self) -> None:
        retention = self._settings.measurement_retention
        if retention is None:
            return
        # A rest after each batch: training writes to the same tables.
        while delete_old_measurements(self._database, retention):
            if self._is_ending.wait(_BATCH_REST_SECONDS):
                return

    def _check_counts(self) -> None:
        with self._database.reading() as session:
            due = unchecked(session, database_now(session), CHECK_AGE, _CHECKS_A_SWEEP)
        for experiment_id in due:
            with self._database.writing() as session:
                repair_counts(session, experiment_id)
        if time.monotonic() < self._next_tally_check:
            return
        self._next_tally_check = (
            time.monotonic() + random.SystemRandom().uniform(0.5, 1.5) * _TALLY_CHECK_SECONDS
        )
        with self._database.reading() as session:
            is_wrong = bool(tallies.differences(session))
        if is_wrong:
            with self._database.writing() as session:
                tallies.repair(session)

    def _sweep_store(self) -> None:
        try:
            delete_expired(self._database, self._store, self._settings.artifact_retention)
            if is_shared(self._settings):
                there = [int(name) for name in self._store.folders(PACKS) if name.isdecimal()]
                for pack_id in self._ended(there):
                    self._store.delete(f"{PACKS}/{pack_id}")
        except (StoreUnavailableError, SQLAlchemyError) as error:
            logger.warning("store.not_swept error=%s", error)

    def _ended(self, pack_ids: Sequence[int]) -> list[int]:
        """Those of the packs that have ended."""
        ended: list[int] = []
        with self._database.reading() as session:
            for start in range(0, len(pack_ids), _IDS_A_QUERY):
                ended += session.scalars(
                    select(Pack.id).where(
                        Pack.id.in_(pack_ids[start : start + _IDS_A_QUERY]),
                        Pack.status.not_in([PackStatus.QUEUED, PackStatus.RUNNING]),
                    )
                )
        return ended
