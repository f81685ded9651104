"""The task: claim whatever pack is due, see a child through it, end the claim. It may arrive twice or too late."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError
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
from worker.child_process import ChildStarter
from worker.devices import DeviceChoice
from worker.pack_folder import PACKS, PackFolder, PackResult, delete_packs, read_result
from worker.recorder import Recorder
from worker.supervision import Ending, EndingKind, Supervision

logger = logging.getLogger(__name__)

_ONE_MESSAGE_SECONDS = 600.0
"""How long one message keeps a slot claiming."""


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
        self._publisher = publisher
        self._starter = starter
        self._device = device
        self._worker_id = worker_id
        self._store = store
        self.draining = threading.Event()
        """Set when this worker shall end: packs are checkpointed and given back."""
        self.fenced_writes = 0
        """How often a claim of this worker turned out to be over."""

    def train(self, pack_id: int) -> None:
        """Work on the most urgent packs; ``pack_id`` is only what woke us.

        The next pack is claimed without waiting for its message, which later finds nothing to do. After a while the
        message that woke us is answered nevertheless: a broker gives up a consumer that keeps one for days.
        """
        until = time.monotonic() + _ONE_MESSAGE_SECONDS
        while self._train_next(pack_id) and time.monotonic() < until:
            continue

    def _train_next(self, pack_id: int) -> bool:
        """Work on the most urgent pack; whether there was one."""
        if self.draining.is_set():
            return False
        try:
            claim = self._claim()
        except DBAPIError as error:
            # The wake-up may go: the pack stays queued and the reconciler sends another.
            logger.warning("pack.unclaimed pack_id=%s error=%r", pack_id, error.orig)
            return False
        if claim is None:
            return False
        self._crash_at("after_claim")
        logger.info("pack.claimed pack_id=%s fence=%s runs=%s", claim.pack_id, claim.fence, len(claim.runs))
        try:
            self._work(claim)
        except FencedError as error:
            self.fenced_writes += 1
            logger.warning("pack.lost pack_id=%s fence=%s", error.pack_id, error.fence)
        return True

    def _claim(self) -> Claim | None:
        with self._database.writing() as session:
            return lifecycle.claim(
                session,
                queue=self._settings.queue,
                worker_id=self._worker_id,
                device=self._settings.device,
                lease=self._settings.lease,
                crash_limit=self._settings.crash_limit,
            )

    def _work(self, claim: Claim) -> None:
        folder = PackFolder.of(self._settings.data_dir, claim)
        recorder = Recorder(self._database, claim, self._settings)
        recorder.start()
        finished = folder.finished(claim)
        if finished is not None:
            logger.info("pack.result_adopted pack_id=%s", claim.pack_id)
            self._complete(claim, recorder, *finished, has_mirrored=True)
            return
        mirror = None
        if is_shared(self._settings):
            folder = self._restored(claim, folder)
            mirror = CheckpointMirror(self._store, folder, recorder.saved)
        try:
            child = self._starter.start(self._job(claim, folder))
        except OSError as error:
            self._end_crashed(claim, recorder, Failure("child_not_started", cause_of(error)))
            return
        ending = Supervision(child, claim, recorder, self._settings, self.draining, mirror).watch()
        if mirror is not None:
            # What is given back goes on elsewhere; what has ended, or is another's by now, needs no checkpoint.
            is_given_back = ending.kind in {EndingKind.RELEASED, EndingKind.CRASHED}
            mirror.finish(self._settings.drain_grace.total_seconds()) if is_given_back else mirror.abandon()
        has_mirrored = claim.attempt > 1 or (mirror is not None and mirror.has_published)
        self._end(claim, recorder, folder, ending, has_mirrored=has_mirrored)

    def _restored(self, claim: Claim, folder: PackFolder) -> PackFolder:
        """The folder with what an attempt on another machine left in the store."""
        if claim.attempt == 1:
            return folder
        try:
            return restore(self._store, folder)
        except (StoreUnavailableError, OSError) as error:
            # The numbers will be the same; only the time is lost.
            logger.warning("checkpoint.not_restored pack_id=%s error=%s", claim.pack_id, error)
            return folder

    def _end(
        self, claim: Claim, recorder: Recorder, folder: PackFolder, ending: Ending, *, has_mirrored: bool
    ) -> None:
        match ending.kind:
            case EndingKind.FENCED:
                raise FencedError(claim.pack_id, claim.fence)
            case EndingKind.FINISHED:
                result = read_result(folder.result, claim)
                if result is None:
                    failure = Failure("result_unreadable", "the result file was damaged on disk")
                    self._end_crashed(claim, recorder, failure)
                else:
                    self._complete(claim, recorder, folder, result, has_mirrored=has_mirrored)
            case EndingKind.CANCELLED:
                self._close(
                    claim, recorder, lambda s: lifecycle.finish_cancelled(s, claim), AttemptOutcome.CANCELLED
                )
            case EndingKind.RELEASED:
                self._close(claim, recorder, lambda s: lifecycle.release(s, claim), AttemptOutcome.RELEASED)
            case EndingKind.FAILED:
                failure = _failure(claim, ending, folder)
                self._close(
                    claim,
                    recorder,
                    lambda s: lifecycle.fail(s, claim, failure, is_shared=ending.is_shared),
                    AttemptOutcome.FAILED,
                )
            case EndingKind.CRASHED:
                self._end_crashed(claim, recorder, _failure(claim, ending, folder))

    def _complete(
        self,
        claim: Claim,
        recorder: Recorder,
        folder: PackFolder,
        result: PackResult,
        *,
        has_mirrored: bool,
    ) -> None:
        def commit(session: Session) -> list[Wakeup]:
            lifecycle.complete(session, claim, result.reports, result.peak_memory_bytes)
            return []

        publication = ArtifactPublication(self._store, self._database, claim, self._settings)
        try:
            kept = publication.publish(folder.artifacts, lambda: recorder.is_fenced, self.draining)
        except NotAnArtifactError as error:
            failure = Failure("artifact_refused", str(error))
            self._close(
                claim,
                recorder,
                lambda s: lifecycle.fail(s, claim, failure, is_shared=True),
                AttemptOutcome.FAILED,
            )
            return
        if not kept:
            self._close(claim, recorder, lambda s: lifecycle.release(s, claim), AttemptOutcome.RELEASED)
            return
        self._close(claim, recorder, commit, AttemptOutcome.FINISHED)
        self._crash_at("after_commit")
        self._delete_files(claim.pack_id, has_mirrored=has_mirrored)
        logger.info("pack.finished pack_id=%s fence=%s", claim.pack_id, claim.fence)

    def _delete_files(self, pack_id: int, *, has_mirrored: bool) -> None:
        delete_packs(self._settings.data_dir, [pack_id])
        # Most packs are over before their first checkpoint: they cost the store no request.
        if not (has_mirrored and is_shared(self._settings)):
            return
        try:
            self._store.delete(f"{PACKS}/{pack_id}")
        except StoreUnavailableError as error:  # the sweep will
            logger.warning("pack.files_left pack_id=%s error=%s", pack_id, error)

    def _end_crashed(self, claim: Claim, recorder: Recorder, failure: Failure) -> None:
        logger.warning("pack.crashed pack_id=%s code=%s", claim.pack_id, failure.code)
        self._close(
            claim,
            recorder,
            lambda s: lifecycle.crash(s, claim, failure, self._settings.crash_limit),
            AttemptOutcome.CRASHED,
        )

    def _close(
        self,
        claim: Claim,
        recorder: Recorder,
        how: Callable[[Session], list[Wakeup]],
        outcome: AttemptOutcome,
    ) -> None:
        drained_at = [0.0]

        def give_up() -> bool:
            if not self.draining.is_set():
                return False
            drained_at[0] = drained_at[0] or time.monotonic()
            return time.monotonic() - drained_at[0] > self._settings.drain_grace.total_seconds()

        wakeups = recorder.end(how, outcome, give_up, lambda: self._crash_at("before_commit"))
        if wakeups:
            self._publisher.publish(wakeups)
        logger.info("pack.ended pack_id=%s fence=%s outcome=%s", claim.pack_id, claim.fence, outcome)

    def _job(self, claim: Claim, folder: PackFolder) -> ChildJob:
        settings = self._settings
        return ChildJob(
            specs=[run.spec.model_dump(mode="json") for run in claim.runs],
            device=self._device.torch_name,
            cuda_graphs=settings.cuda_graphs,
            threads=settings.child_threads or max(1, (os.cpu_count() or 1) // settings.concurrency),
            folder=str(folder.folder),
            earlier=[str(earlier) for earlier in folder.earlier],
            log=str(folder.log),
            result=str(folder.result),
            artifacts=str(folder.artifacts),
            checkpoint_interval_seconds=settings.checkpoint_interval.total_seconds(),
            kernel_memory_limit_bytes=settings.kernel_memory_limit_bytes,
            kernel_cache=str(settings.data_dir.absolute() / "kernel-cache"),
            kernel_cache_limit_bytes=settings.kernel_cache_limit_bytes,
            crash_point=settings.crash_point if claim.attempt <= settings.crash_attempts else None,
        )

    def _crash_at(self, point: CrashPoint) -> None:
        if self._settings.crash_point == point:
            os.kill(os.getpid(), signal.SIGKILL)


def _failure(claim: Claim, ending: Ending, folder: PackFolder) -> Failure:
    """The cause for the reader; the end of the child's log for whoever runs this worker."""
    tail = folder.log_tail()
    if tail:
        logger.warning("pack.child_log pack_id=%s fence=%s\n%s", claim.pack_id, claim.fence, tail)
    return Failure(ending.code, ending.text, tail)
