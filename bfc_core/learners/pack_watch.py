"""What a pack tells and asks while it trains: progress, checkpoints that are due, interruptions, cancellations."""

import time
from collections.abc import Callable
from typing import Any

from bfc_core.checkpoint import Checkpoints
from bfc_core.errors import PackInterrupted
from bfc_core.training.progress import Observer

POLL_SECONDS = 0.2
"""How often the observer is asked whether a run is still wanted."""


class PackWatch:
    """The observer and the checkpoints of one pack.

    ``cancelled`` are the runs that nobody wanted any more when the observer was last asked.
    """

    def __init__(self, observer: Observer, checkpoints: Checkpoints | None) -> None:
        self.observer, self.checkpoints = observer, checkpoints
        self.cancelled: frozenset[int] = frozenset()
        self._asked = time.monotonic()

    def attend(self, done: int, total: int, state: Callable[[], dict[str, Any]]) -> bool:
        """Save ``state()`` where a checkpoint is due; tell and ask the observer where that is some time ago.

        Returns whether it was asked just now, so that ``cancelled`` is new.

        Raises:
            PackInterrupted: the observer asked the pack to stop; a checkpoint was saved where there is a folder.
        """
        if self.checkpoints is not None and self.checkpoints.due():
            self.checkpoints.save(done, state())
        now = time.monotonic()
        if now - self._asked < POLL_SECONDS:
            return False
        self._asked = now
        self.observer.progressed(done, total)
        if self.observer.stop_requested():
            if self.checkpoints is not None:
                self.checkpoints.save(done, state())
            raise PackInterrupted(f"stopped at step {done} of {total}")
        self.cancelled = self.observer.cancelled()
        return True
