"""One attempt at a pack: prepared, executed by a child, and its end stored; when, is up to its slot."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from service.config import CrashPoint, Settings
from service.database import Database
from service.jobs import Publisher
from service.models import AttemptOutcome
from service.runs import lifecycle
from service.runs.claims import Claim, FencedError
from service.runs.moves import Failure, Wakeup
from service.store.base import Store, StoreUnavailableError
from service.store.opening import is_shared
from worker.artifact_publication import ArtifactPublication, NotAnArtifactError
from worker.cause import cause_of
from worker.checkpoint_mirror import CheckpointMirror, restore
from worker.child_job import ChildJob
from worker.child_process import ChildProcess, ChildStarter
from worker.devices import DeviceChoice
from worker.pack_folder import PACKS, PackFolder, PackResult, delete_packs, read_result
from worker.recorder import Recorder
from worker.supervision import Ending, EndingKind, Supervision

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerParts:
    """What every attempt of one worker process uses; safe to share among its threads."""

    settings: Settings
    database: Database
    publisher: Publisher
    starter: ChildStarter
    device: DeviceChoice
    store: Store
    draining: threading.Event
    """Set when this worker shall end: packs are checkpointed and given back."""

    def crash_at(self, point: CrashPoint) -> None:
        """Die here if a test asked for it."""
        if self.settings.crash_point == point:
            os.kill(os.getpid(), signal.SIGKILL)


class Attempt:
    """One claim, from the moment it is ours to the moment its end is stored. Used by one thread at a time.

    ``prepare``, ``begin``, ``watch`` and ``store`` in this order, or ``prepare`` and ``give_back``. After ``prepare``
    the lease is renewed whatever happens next, until the end is stored.
    """

    def __init__(self, claim: Claim, parts: WorkerParts) -> None:
        """Make the attempt's folder.

        Raises:
            OSError: there is no room for it; the lease will run out.
        """
        self.claim = claim
        self._parts = parts
        self._folder = PackFolder.of(parts.settings.data_dir, claim)
        self._recorder = Recorder(parts.database, claim, parts.settings)
        self._mirror: CheckpointMirror | None = None
        self._child: ChildProcess | None = None
        self._supervision: Supervision | None = None
        self._result: PackResult | None = None
        self._ending: Ending | None = None
        self._is_abandoned = False

    @property
    def is_unwanted(self) -> bool:
        """Whether it shall not begin: the claim was lost, its experiment is paused, or all its runs shall stop."""
        return self._recorder.is_unwanted

    def prepare(self) -> None:
        """Look for what earlier attempts have left; else give the job to a child, which waits to begin."""
        self._recorder.start()
        finished = self._folder.finished(self.claim)
        if finished is not None:
            logger.info("pack.result_adopted pack_id=%s", self.claim.pack_id)
            self._folder, self._result = finished
            self._ending = Ending(EndingKind.FINISHED)
            return
        if is_shared(self._parts.settings):
            self._restore()
            self._mirror = CheckpointMirror(self._parts.store, self._folder, self._recorder.saved)
        try:
            self._child = self._parts.starter.start(self._job())
        except OSError as error:
            self._ending = Ending(EndingKind.CRASHED, "child_not_started", cause_of(error))

    def begin(self) -> None:
        """Let the child compute; limits of time count from now on."""
        self._recorder.begin()
        if self._child is None:
            return
        try:
            self._child.begin()
        except OSError:
            # Somebody has ended it while it waited: nothing of the pack has begun, and another child can.
            logger.warning("child.ended_waiting pack_id=%s", self.claim.pack_id)
            self._child.close()
            try:
                self._child = self._parts.starter.start(self._job())
            except OSError as error:
                self._ending = Ending(EndingKind.CRASHED, "child_not_started", cause_of(error))
                return
            self._child.tell("begin")
        self._supervision = Supervision(
            self._child,
            self.claim,
            self._recorder,
            self._parts.settings,
            self._parts.draining,
            self._mirror,
        )

    def watch(self, look: Callable[[float], None]) -> bool:
        """Wait until there is nothing more to compute; whether the result is on disk.

        With a result another attempt may begin at once: what is left is storing it, and the end of a process, which
        on a GPU is waited for here, since it holds the memory.

        Args:
            look: called some ten times a second with the seconds that the steps are expected to take still.
        """
        if self._supervision is not None:
            self._ending = self._supervision.watch(look)
        is_finished = self._ending is not None and self._ending.kind is EndingKind.FINISHED
        if is_finished and self._child is not None and self._parts.device.torch_name != "cpu":
            self._child.close()
        return is_finished

    def store(self) -> None:
        """Store how it ended and delete its files, trying until database and store have answered.

        Raises:
            FencedError: the claim was over before.
        """
        if self._ending is None or self._is_abandoned:
            return
        if self._child is not None:
            self._child.close()
        if self._mirror is not None:
            # What is given back goes on elsewhere; what has ended, or is another's by now, needs no checkpoint.
            is_given_back = self._ending.kind in {EndingKind.RELEASED, EndingKind.CRASHED}
            grace = self._parts.settings.drain_grace.total_seconds()
            self._mirror.finish(grace) if is_given_back else self._mirror.abandon()
        self._end(self._ending)

    def give_back(self) -> None:
        """Let somebody else do it; nothing of it has begun.

        Raises:
            FencedError: the claim was over before.
        """
        self._end_child()
        self._close(lambda session: lifecycle.release(session, self.claim), AttemptOutcome.RELEASED)

    def abandon(self) -> None:
        """Do nothing more for it: the lease runs out, and whoever finds it tries again."""
        self._is_abandoned = True
        self._recorder.stop()
        self._end_child()

    def _end_child(self) -> None:
        if self._mirror is not None:
            self._mirror.abandon()
        if self._child is not None:
            self._child.kill()
            self._child.close()

    def _restore(self) -> None:
        """Fetch what an attempt on another machine left in the store."""
        if self.claim.attempt == 1:
            return
        try:
            self._folder = restore(self._parts.store, self._folder)
        except (StoreUnavailableError, OSError) as error:
            # The numbers will be the same; only the time is lost.
            logger.warning("checkpoint.not_restored pack_id=%s error=%s", self.claim.pack_id, error)

    def _end(self, ending: Ending) -> None:
        claim = self.claim
        match ending.kind:
            case EndingKind.FENCED:
                raise FencedError(claim.pack_id, claim.fence)
            case EndingKind.FINISHED:
                result = self._result or read_result(self._folder.result, claim)
                if result is None:
                    self._end_crashed(Failure("result_unreadable", "the result file was damaged on disk"))
                else:
                    self._complete(result)
            case EndingKind.CANCELLED:
                self._close(lambda s: lifecycle.finish_cancelled(s, claim), AttemptOutcome.CANCELLED)
            case EndingKind.RELEASED:
                self._close(lambda s: lifecycle.release(s, claim), AttemptOutcome.RELEASED)
            case EndingKind.FAILED:
                self._end_failed(self._failure(ending), is_shared=ending.is_shared)
            case EndingKind.CRASHED:
                self._end_crashed(self._failure(ending))

    def _complete(self, result: PackResult) -> None:
        def commit(session: Session) -> list[Wakeup]:
            lifecycle.complete(session, self.claim, result.reports, result.peak_memory_bytes)
            return []

        parts = self._parts
        publication = ArtifactPublication(parts.store, parts.database, self.claim, parts.settings)
        try:
            kept = publication.publish(
                self._folder.artifacts, lambda: self._recorder.is_fenced, parts.draining
            )
        except NotAnArtifactError as error:
            self._end_failed(Failure("artifact_refused", str(error)), is_shared=True)
            return
        if not kept:
            self._close(lambda s: lifecycle.release(s, self.claim), AttemptOutcome.RELEASED)
            return
        self._close(commit, AttemptOutcome.FINISHED)
        parts.crash_at("after_commit")
        self._delete_files()
        logger.info("pack.finished pack_id=%s fence=%s", self.claim.pack_id, self.claim.fence)

    def _delete_files(self) -> None:
        delete_packs(self._parts.settings.data_dir, [self.claim.pack_id])
        # Most packs are over before their first checkpoint: they cost the store no request.
        has_mirrored = (
            self._result is not None
            or self.claim.attempt > 1
            or (self._mirror is not None and self._mirror.has_published)
        )
        if not (has_mirrored and is_shared(self._parts.settings)):
            return
        try:
            self._parts.store.delete(f"{PACKS}/{self.claim.pack_id}")
        except StoreUnavailableError as error:  # the sweep will
            logger.warning("pack.files_left pack_id=%s error=%s", self.claim.pack_id, error)

    def _end_failed(self, failure: Failure, *, is_shared: bool) -> None:
        self._close(
            lambda s: lifecycle.fail(s, self.claim, failure, is_shared=is_shared), AttemptOutcome.FAILED
        )

    def _end_crashed(self, failure: Failure) -> None:
        logger.warning("pack.crashed pack_id=%s code=%s", self.claim.pack_id, failure.code)
        limit = self._parts.settings.crash_limit
        self._close(lambda s: lifecycle.crash(s, self.claim, failure, limit), AttemptOutcome.CRASHED)

    def _close(self, how: Callable[[Session], list[Wakeup]], outcome: AttemptOutcome) -> None:
        drained_at = [0.0]

        def give_up() -> bool:
            if not self._parts.draining.is_set():
                return False
            drained_at[0] = drained_at[0] or time.monotonic()
            return time.monotonic() - drained_at[0] > self._parts.settings.drain_grace.total_seconds()

        claim = self.claim
        wakeups = self._recorder.end(how, outcome, give_up, lambda: self._parts.crash_at("before_commit"))
        if wakeups:
            self._parts.publisher.publish(wakeups)
        logger.info("pack.ended pack_id=%s fence=%s outcome=%s", claim.pack_id, claim.fence, outcome)

    def _job(self) -> ChildJob:
        settings, folder = self._parts.settings, self._folder
        return ChildJob(
            specs=[run.spec.model_dump(mode="json") for run in self.claim.runs],
            device=self._parts.device.torch_name,
            cuda_graphs=settings.cuda_graphs,
            threads=settings.child_threads or max(1, (os.cpu_count() or 1) // settings.concurrency),
            folder=str(folder.folder),
            earlier=[str(earlier) for earlier in folder.earlier],
            log=str(folder.log),
            result=str(folder.result),
            artifacts=str(folder.artifacts),
            checkpoint_interval_seconds=settings.checkpoint_interval.total_seconds(),
            pack_memory_limit_bytes=settings.pack_memory_limit_bytes,
            kernel_cache=str(settings.data_dir.absolute() / "kernel-cache"),
            kernel_cache_limit_bytes=settings.kernel_cache_limit_bytes,
            data_sets=str(settings.data_sets_folder.absolute()),
            crash_point=settings.crash_point if self.claim.attempt <= settings.crash_attempts else None,
        )

    def _failure(self, ending: Ending) -> Failure:
        """The cause for the reader; the end of the child's log for whoever runs this worker."""
        tail = self._folder.log_tail()
        if tail:
            logger.warning(
                "pack.child_log pack_id=%s fence=%s\n%s", self.claim.pack_id, self.claim.fence, tail
            )
        return Failure(ending.code, ending.text, tail)
