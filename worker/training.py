"""The task: claim whatever pack is due, see a child through it, end the claim. It may arrive twice or too late."""

import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from sqlalchemy.exc import SQLAlchemyError

from service.config import Settings
from service.database import Database
from service.jobs import Publisher
from service.runs import lifecycle
from service.runs.claims import Claim, FencedError
from service.store.base import Store
from worker.attempt import Attempt, WorkerParts
from worker.child_process import ChildStarter
from worker.claim_ahead import ClaimAhead
from worker.devices import DeviceChoice

logger = logging.getLogger(__name__)

_ONE_MESSAGE_SECONDS = 600.0
"""How long one message keeps a slot claiming."""

_MOST_UNREADABLE = 100
"""Packs that are passed over in one look at the queue."""

_LEAST_LEAD_SECONDS = 0.2
_MOST_LEAD_SECONDS = 1.0
"""How long before the expected end of a pack the next one is claimed: twice what that took last, within these."""


class Training:
    """Executes packs one after another; shared by the worker's threads."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        publisher: Publisher,
        starter: ChildStarter,
        device: DeviceChoice,
        worker_id: str,
        store: Store,
    ) -> None:
        self._settings = settings
        self._database = database
        self._worker_id = worker_id
        self.draining = threading.Event()
        """Set when this worker shall end: packs are checkpointed and given back."""
        self._parts = WorkerParts(settings, database, publisher, starter, device, store, self.draining)
        self._lead_seconds = _LEAST_LEAD_SECONDS
        self._unreadable: tuple[int, ...] = ()
        """Packs that a newer version accepted."""
        self.fenced_writes = 0
        """How often a claim of this worker turned out to be over."""

    def train(self, pack_id: int) -> None:
        """Work on the most urgent packs; ``pack_id`` is only what woke us.

        The next pack is claimed without waiting for its message, which later finds nothing to do. After a while the
        message that woke us is answered nevertheless: a broker gives up a consumer that keeps one for days.

        One pack computes at a time. While it does, either the end of the one before is stored or the one after is
        prepared: a slot holds two claims at most.
        """
        until = time.monotonic() + _ONE_MESSAGE_SECONDS
        with ThreadPoolExecutor(2, thread_name_prefix=f"beside-{pack_id}") as beside:
            storing: Future[None] = Future()
            storing.set_result(None)
            attempt = self._begun(self._next(), until)
            while attempt is not None:
                ahead = self._ahead(beside, until, storing)
                is_finished = self._watch(attempt, ahead)
                following = ahead.taken()
                if is_finished and following is None:
                    storing.result()
                    following = self._next(until)
                if is_finished and following is not None:
                    following = self._begun(following, until)
                    storing = beside.submit(self._store, attempt)
                else:
                    # A pack that goes back to the queue is stored first: it may be what comes next.
                    self._store(attempt)
                    storing.result()
                    following = self._begun(following or self._next(until), until)
                attempt = following

    def _begun(self, attempt: Attempt | None, until: float) -> Attempt | None:
        """Let it compute, or another where it is not wanted any more; None where this worker shall end."""
        while attempt is not None and (self.draining.is_set() or attempt.is_unwanted):
            self._give_back(attempt)
            attempt = self._next(until)
        if attempt is not None:
            attempt.begin()
        return attempt

    def _ahead(self, beside: ThreadPoolExecutor, until: float, storing: Future[None]) -> ClaimAhead:
        return ClaimAhead(
            claim=lambda: self._next(until, is_ahead=True),
            give_back=self._give_back,
            may_claim=storing.done,
            lead_seconds=self._lead_seconds,
            beside=beside,
        )

    def _next(self, until: float = float("inf"), *, is_ahead: bool = False) -> Attempt | None:
        """Claim and prepare the most urgent pack; None where there is none, or none can be had now."""
        began = time.monotonic()
        if self.draining.is_set() or began > until:
            return None
        try:
            claim = self._claim(is_ahead=is_ahead)
        except SQLAlchemyError as error:
            # The wake-up may go: the pack stays queued and the reconciler sends another.
            logger.warning("pack.unclaimed error=%r", getattr(error, "orig", error))
            return None
        except Exception:
            # Whoever asked may hold another claim, whose lease is renewed until its end is stored: let nothing stop it.
            logger.exception("pack.unclaimed")
            return None
        if claim is None:
            return None
        self._parts.crash_at("after_claim")
        logger.info("pack.claimed pack_id=%s fence=%s runs=%s", claim.pack_id, claim.fence, len(claim.runs))
        attempt = self._prepared(claim)
        if is_ahead:
            self._parts.crash_at("claimed_ahead")
        lead_seconds = 2 * (time.monotonic() - began)
        self._lead_seconds = min(max(lead_seconds, _LEAST_LEAD_SECONDS), _MOST_LEAD_SECONDS)
        return attempt

    def _claim(self, *, is_ahead: bool) -> Claim | None:
        """The most urgent pack that this code can read; in the middle of an upgrade there may be others."""
        while len(self._unreadable) < _MOST_UNREADABLE:
            try:
                with self._database.writing() as session:
                    return lifecycle.claim(
                        session,
                        queue=self._settings.queue,
                        worker_id=self._worker_id,
                        device=self._settings.device,
                        lease=self._settings.lease,
                        crash_limit=self._settings.crash_limit,
                        is_ahead=is_ahead,
                        without=self._unreadable,
                    )
            except lifecycle.UnreadablePackError as error:
                logger.warning("pack.unreadable pack_id=%s error=%s", error.pack_id, error.cause)
                self._unreadable = (*self._unreadable, error.pack_id)
        # Some of them may have ended by now.
        self._unreadable = ()
        return None

    def _prepared(self, claim: Claim) -> Attempt | None:
        attempt = None
        try:
            attempt = Attempt(claim, self._parts)
            attempt.prepare()
        except Exception:
            # Of this machine, such as a full disk: nobody renews the lease, and the pack is tried again after it.
            logger.exception("pack.unprepared pack_id=%s fence=%s", claim.pack_id, claim.fence)
            if attempt is not None:
                attempt.abandon()
            return None
        return attempt

    def _watch(self, attempt: Attempt, ahead: ClaimAhead) -> bool:
        try:
            return attempt.watch(ahead.look)
        except Exception:
            logger.exception("pack.unwatched pack_id=%s", attempt.claim.pack_id)
            attempt.abandon()
            return False

    def _store(self, attempt: Attempt) -> None:
        try:
            attempt.store()
        except FencedError as error:
            self._lost(error)
        except Exception:
            logger.exception("pack.unstored pack_id=%s", attempt.claim.pack_id)
            attempt.abandon()

    def _give_back(self, attempt: Attempt) -> None:
        try:
            attempt.give_back()
        except FencedError as error:
            self._lost(error)
        except Exception:
            logger.exception("pack.unreturned pack_id=%s", attempt.claim.pack_id)
            attempt.abandon()

    def _lost(self, error: FencedError) -> None:
        self.fenced_writes += 1
        logger.warning("pack.lost pack_id=%s fence=%s", error.pack_id, error.fence)
