"""Watches one child to its end: passes its lines on, carries cancels down, and knows when to stop waiting."""

import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from bfc_core.specs import Point
from service.config import Settings
from service.runs.claims import Claim
from worker.checkpoint_mirror import CheckpointMirror
from worker.child_process import ChildProcess
from worker.forecast import Forecast
from worker.recorder import Recorder

logger = logging.getLogger(__name__)

_POINTS = TypeAdapter(list[Point])
_TURN_SECONDS = 0.1
_MEMORY_LOOK_SECONDS = 1.0


class EndingKind(StrEnum):
    """How it ended, and thereby what is to be done with the claim."""

    FINISHED = "finished"
    FAILED = "failed"
    CRASHED = "crashed"
    CANCELLED = "cancelled"
    RELEASED = "released"
    FENCED = "fenced"


@dataclass(frozen=True)
class Ending:
    """The end of a child. ``is_shared``: a failure of the pack as a whole."""

    kind: EndingKind
    code: str = ""
    text: str = ""
    is_shared: bool = False


class Supervision:
    """One child under watch, by one thread."""

    def __init__(
        self,
        child: ChildProcess,
        claim: Claim,
        recorder: Recorder,
        settings: Settings,
        draining: threading.Event,
        mirror: CheckpointMirror | None = None,
    ) -> None:
        self._child = child
        self._claim = claim
        self._recorder = recorder
        self._settings = settings
        self._draining = draining
        self._mirror = mirror
        self._member = {run.id: index for index, run in enumerate(claim.runs)}
        self._started = time.monotonic()
        self._last_line = self._started
        self._next_memory_look = self._started
        self._told: frozenset[UUID] = frozenset()
        self._kill_at: float | None = None
        self._verdict: Ending | None = None
        self._forecast = Forecast()

    def watch(self, each_turn: Callable[[float], None]) -> Ending:
        """Return when the child is gone, or as soon as it says that its result is on disk: its end is not waited for.

        Args:
            each_turn: called with the seconds that the steps are expected to take still.
        """
        while not self._child.is_over and not self._is_finished:
            for document in self._child.read(_TURN_SECONDS):
                self._last_line = time.monotonic()
                self._take(document)
            if not self._is_finished:
                self._look()
                each_turn(self._forecast.seconds_left(time.monotonic()))
        if self._is_finished and not self._recorder.is_fenced:
            return Ending(EndingKind.FINISHED)
        code = self._child.close()
        if self._recorder.is_fenced:
            return Ending(EndingKind.FENCED)
        if self._verdict is not None:
            return self._verdict
        if self._shall_give_back():
            return Ending(EndingKind.RELEASED)
        return Ending(EndingKind.CRASHED, "child_died", f"the training process {_how_it_ended(code)}")

    @property
    def _is_finished(self) -> bool:
        return self._verdict is not None and self._verdict.kind is EndingKind.FINISHED

    def _take(self, document: dict[str, Any]) -> None:
        runs = self._claim.runs
        match document["kind"]:
            case "progress":
                self._recorder.progressed(document["step"], document["steps"])
                self._forecast.progressed(self._last_line, document["step"], document["steps"])
            case "measured":
                points = _POINTS.validate_python(document["points"])
                self._recorder.measured(runs[document["member"]].id, points)
            case "checkpoint":
                self._recorder.saved(document["step"], document["path"], document["sha256"])
                if self._mirror is not None:
                    self._mirror.offer(document["step"], Path(document["path"]), document["sha256"])
            case "stopped":
                self._recorder.has_stopped([runs[member].id for member in document["members"]])
            case "finished":
                self._verdict = Ending(EndingKind.FINISHED)
            case "interrupted":
                self._verdict = self._verdict or Ending(EndingKind.RELEASED)
            case "exhausted":
                self._verdict = Ending(EndingKind.CRASHED, "child_died", document["text"])
            case "error":
                self._verdict = Ending(EndingKind.FAILED, document["code"], document["text"])

    def _look(self) -> None:
        now = time.monotonic()
        if self._recorder.is_fenced:
            self._child.kill()
        elif self._kill_at is not None:
            if now >= self._kill_at:
                self._child.kill()
        elif self._shall_give_back():
            self._stop(self._settings.drain_grace.total_seconds())
        else:
            self._carry_cancels()
            self._enforce_limits(now)

    def _shall_give_back(self) -> bool:
        """Whether this worker ends or the experiment is paused: neither counts against the pack."""
        return self._draining.is_set() or self._recorder.is_held

    def _carry_cancels(self) -> None:
        wanted = self._recorder.cancelled
        if wanted == self._told:
            return
        self._told = wanted
        if len(wanted) == len(self._claim.runs):
            self._verdict = Ending(EndingKind.CANCELLED)
            self._stop(self._settings.cancel_grace.total_seconds())
        else:
            self._child.tell("cancel", members=sorted(self._member[run_id] for run_id in wanted))

    def _enforce_limits(self, now: float) -> None:
        budget = self._claim.runs[0].spec.budget.seconds
        if budget is not None and now - self._started > budget:
            text = f"the pack's budget of {budget:g} seconds is spent; allow more seconds or fewer steps"
            self._refuse(Ending(EndingKind.FAILED, "time_limit_exceeded", text, is_shared=True))
        elif now - self._last_line > self._settings.stall_timeout.total_seconds():
            text = f"no progress for {self._settings.stall_timeout.total_seconds():g} seconds"
            self._refuse(Ending(EndingKind.CRASHED, "stalled", text))
        limit = self._settings.child_memory_limit_bytes
        if limit is not None and now >= self._next_memory_look:
            self._next_memory_look = now + _MEMORY_LOOK_SECONDS
            if self._child.resident_bytes() > limit:
                text = f"the training process held more than {limit / 2**30:.2f} GiB"
                self._refuse(Ending(EndingKind.FAILED, "memory_limit_exceeded", text))

    def _refuse(self, verdict: Ending) -> None:
        self._verdict = verdict
        self._kill_at = 0.0
        self._child.kill()

    def _stop(self, grace_seconds: float) -> None:
        """Ask politely; what has not ended after the grace is killed."""
        self._child.tell("stop")
        self._child.terminate()
        self._kill_at = time.monotonic() + grace_seconds


def _how_it_ended(code: int | None) -> str:
    if code is None or code >= 0:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
