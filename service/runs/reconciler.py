"""The loop that mends what messages and processes break: lost wake-ups, dead owners.

Any number of copies may run, in workers and in the API: each step takes the rows that nobody else holds.
"""

import logging
import threading
import time
from collections.abc import Callable

from kombu.exceptions import KombuError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from service.config import Settings
from service.database import Database, in_words
from service.jobs import Publisher
from service.runs import lifecycle

logger = logging.getLogger(__name__)

_BATCH = 16
"""Wake-ups repeated in one tick: any message claims any pack, so a few are enough."""


class Reconciler:
    """Reaps expired leases and repeats lost wake-ups, every ``reconcile_interval``.

    Args:
        also: a further step of this process, called at the end of each tick.
    """

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        settings: Settings,
        also: Callable[[], None] | None = None,
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._settings = settings
        self._also = also
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="reconciler", daemon=True)
        self._last_tick: float | None = None
        self._no_reaping_until = 0.0

    def start(self) -> None:
        """Run in a thread until ``stop``."""
        self._thread.start()

    def stop(self) -> None:
        """End after the present tick."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(self._settings.broker_timeout.total_seconds())

    def tick(self) -> None:
        """Do everything once."""
        # Wall time on purpose: a machine that slept has let every lease run out without any worker being dead.
        now = time.time()
        lease = self._settings.lease.total_seconds()
        if self._last_tick is not None and now - self._last_tick > lease:
            self._no_reaping_until = now + lease
        self._last_tick = now
        try:
            if now >= self._no_reaping_until:
                self._reap()
            self._repeat_wakeups()
            if self._also is not None:
                self._also()
        except SQLAlchemyError as error:
            # While the database was away nobody could renew a lease: give every owner one full lease to do so.
            self._no_reaping_until = time.time() + lease
            logger.warning("reconciler.database_unavailable error=%s", in_words(error))

    def _reap(self) -> None:
        # Asked without any lock first: on SQLite a writing transaction waits for all others, and they for it.
        with self._database.reading() as session:
            if not lifecycle.has_expired(session) or not self._has_been_up_one_lease(session):
                return
        with self._database.writing() as session:
            wakeups = lifecycle.reap(session, self._settings.crash_limit)
        if wakeups:
            logger.warning("reconciler.leases_expired packs=%s", [wakeup.pack_id for wakeup in wakeups])
            self._publisher.publish(wakeups)

    def _repeat_wakeups(self) -> None:
        with self._database.reading() as session:
            queues = lifecycle.due_queues(session)
        for queue in queues:
            try:
                waiting = self._publisher.backlog(queue)
            except (OSError, KombuError) as error:
                logger.warning("reconciler.broker_unavailable error=%r", error)
                return
            if waiting >= self._settings.backlog_limit:
                continue
            with self._database.writing() as session:
                wakeups = lifecycle.due_wakeups(
                    session, queue, self._settings.republish_first, self._settings.republish_cap, _BATCH
                )
            self._publisher.publish(wakeups)

    def _has_been_up_one_lease(self, session: Session) -> bool:
        if self._database.is_sqlite:
            return True
        return bool(
            session.scalar(
                text("SELECT pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => :lease)"),
                {"lease": self._settings.lease.total_seconds()},
            )
        )

    def _repeat(self) -> None:
        while not self._stopped.wait(self._settings.reconcile_interval.total_seconds()):
            try:
                self.tick()
            except Exception:
                logger.exception("reconciler.tick_failed")
