"""Turns what a child says into fenced writes, in a thread of its own.

While the database is away nothing is lost and nothing is killed: what came is kept and written when it is back.
Only a definite answer that the claim is over (``FencedError``) ends an attempt.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from bfc_core.specs import Point
from service.config import Settings
from service.database import Database
from service.models import AttemptOutcome
from service.runs import claims, lifecycle
from service.runs.claims import Claim, FencedError, News, Wishes

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 0.5
_BATCH = 2000
"""Measurements of one transaction: what a pack of a second leaves is one, and others wait some ten milliseconds."""

Answer = TypeVar("Answer")


@dataclass
class _Pending:
    """What the database has not heard yet; only the newest progress and checkpoint matter."""

    measurements: list[tuple[UUID, Point]] = field(default_factory=list)
    progress: tuple[int, int] | None = None
    checkpoint: tuple[int, str, str] | None = None
    stopped: set[UUID] = field(default_factory=set)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to be written."""
        return not (self.measurements or self.progress or self.checkpoint or self.stopped)


class Recorder:
    """Heartbeats, progress, measurements and the look for cancels, for one claim.

    ``cancelled``, ``is_held`` and ``is_fenced`` are read by the thread that watches the child.
    """

    def __init__(self, database: Database, claim: Claim, settings: Settings) -> None:
        self._database = database
        self._claim = claim
        self._settings = settings
        self._lock = threading.Lock()
        self._pending = _Pending()
        self._stopped = threading.Event()
        self._is_waiting = self._said_waiting = claim.is_ahead
        self._thread = threading.Thread(target=self._repeat, name=f"recorder-{claim.pack_id}", daemon=True)
        # The claim has begun the lease a moment ago.
        self._next_heartbeat = time.monotonic() + settings.heartbeat_interval.total_seconds()
        self._next_progress = 0.0
        self.cancelled: frozenset[UUID] = frozenset()
        self.is_fenced = False
        self.is_held = False

    def start(self) -> None:
        """Record in a thread until ``end`` or ``stop``."""
        self._thread.start()

    def begin(self) -> None:
        """Say with the next look that the pack has begun, if it was claimed to wait."""
        self._is_waiting = False

    def stop(self) -> None:
        """Record nothing more; the lease is not renewed any more."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def measured(self, run_id: UUID, points: Sequence[Point]) -> None:
        """Keep measurements of a run for the next write."""
        with self._lock:
            self._pending.measurements.extend([(run_id, point) for point in points])

    @property
    def is_unwanted(self) -> bool:
        """Whether nobody waits for the pack now: it was lost, its experiment is paused, or all its runs shall stop."""
        return self.is_fenced or self.is_held or len(self.cancelled) == len(self._claim.runs)

    def progressed(self, step: int, steps: int) -> None:
        """Keep the newest progress."""
        with self._lock:
            self._pending.progress = (step, steps)

    def saved(self, step: int, path: str, sha256: str) -> None:
        """Keep the newest checkpoint."""
        with self._lock:
            self._pending.checkpoint = (step, path, sha256)

    def has_stopped(self, run_ids: Collection[UUID]) -> None:
        """Keep that the child has masked these runs."""
        with self._lock:
            self._pending.stopped.update(run_ids)

    def end(
        self,
        how: Callable[[Session], Answer],
        outcome: AttemptOutcome,
        give_up: Callable[[], bool],
        before_commit: Callable[[], None] = lambda: None,
    ) -> Answer | None:
        """Write what is kept, then end the claim with ``how``, trying until the database has answered.

        Args:
            how: one of ``lifecycle``'s functions that end a claim.
            outcome: what the attempt's row says once ``how`` is committed.
            give_up: asked between two tries.
            before_commit: called when everything but the commit is done.

        Returns:
            What ``how`` answered; None after a commit whose answer was lost, or given up.

        Raises:
            FencedError: the claim was over before.
        """
        self.stop()
        while True:
            try:
                answer = self._end_with(how, before_commit)
            except FencedError:
                if self._has_ended_with(outcome):
                    return None
                raise
            except DBAPIError as error:
                logger.warning("attempt.end_delayed pack_id=%s error=%r", self._claim.pack_id, error.orig)
                if give_up():
                    return None
                time.sleep(_RETRY_SECONDS)
            else:
                return answer

    def _end_with(self, how: Callable[[Session], Answer], before_commit: Callable[[], None]) -> Answer:
        """What is kept and the end of the claim, in one transaction; of many measurements all but the last ones before.

        A pack that lasts a second should not wait four times for the disk.
        """
        with self._taken() as taken:
            while len(taken.measurements) > _BATCH:
                self._write_batch(taken)
            with self._database.writing() as session:
                if not taken.is_empty:
                    self._write(session, taken, is_last=True)
                answer = how(session)
                before_commit()
            return answer

    def _has_ended_with(self, outcome: AttemptOutcome) -> bool:
        """Whether an earlier try did it although its answer got lost."""
        with self._database.reading() as session:
            return lifecycle.attempt_outcome(session, self._claim) is outcome

    def _repeat(self) -> None:
        pause = self._settings.control_interval.total_seconds()
        while not self._stopped.wait(pause):
            try:
                wishes = self._turn()
                self.cancelled, self.is_held = wishes.cancelled, wishes.is_held
            except FencedError:
                logger.warning("attempt.fenced pack_id=%s fence=%s", self._claim.pack_id, self._claim.fence)
                self.is_fenced = True
                return
            except DBAPIError as error:
                logger.warning("attempt.unrecorded pack_id=%s error=%r", self._claim.pack_id, error.orig)
            except Exception:
                # Silence would let the lease run out; the next turn tries again.
                logger.exception("attempt.recording_failed pack_id=%s", self._claim.pack_id)

    def _turn(self) -> Wishes:
        """Write what is due and look at what others want, in one transaction."""
        now = time.monotonic()
        is_due = now >= self._next_heartbeat or self._said_waiting != self._is_waiting
        if now >= self._next_progress:
            with self._taken() as taken:
                if taken.is_empty and not is_due:
                    return self._look()
                while len(taken.measurements) > _BATCH:
                    self._write_batch(taken)
                wishes = self._said(taken)
            self._next_progress = time.monotonic() + self._settings.progress_interval.total_seconds()
        elif is_due:
            wishes = self._said(_Pending())
        else:
            return self._look()
        self._next_heartbeat = now + self._settings.heartbeat_interval.total_seconds()
        return wishes

    def _said(self, taken: _Pending) -> Wishes:
        is_waiting = self._is_waiting
        with self._database.writing() as session:
            wishes = self._write(session, taken, is_waiting=is_waiting)
        self._said_waiting = is_waiting
        return wishes

    def _look(self) -> Wishes:
        with self._database.reading() as session:
            return claims.wishes(session, self._claim)

    @contextmanager
    def _taken(self) -> Iterator[_Pending]:
        """What is kept, to be written; what could not be written is kept again, before what came since."""
        with self._lock:
            taken, self._pending = self._pending, _Pending()
        try:
            yield taken
        except BaseException:
            with self._lock:
                newer = self._pending
                self._pending = _Pending(
                    taken.measurements + newer.measurements,
                    newer.progress or taken.progress,
                    newer.checkpoint or taken.checkpoint,
                    taken.stopped | newer.stopped,
                )
            raise

    def _write_batch(self, taken: _Pending) -> None:
        with self._database.writing() as session:
            claims.record(session, self._claim, News(taken.measurements[:_BATCH]), self._settings.lease)
        del taken.measurements[:_BATCH]

    def _write(
        self, session: Session, taken: _Pending, *, is_waiting: bool = False, is_last: bool = False
    ) -> Wishes:
        news = News(taken.measurements, taken.checkpoint, taken.progress)
        lease = self._settings.lease
        wishes = claims.record(session, self._claim, news, lease, is_waiting=is_waiting, is_last=is_last)
        if taken.stopped:
            lifecycle.settle_cancelled(session, self._claim, taken.stopped)
        return wishes
