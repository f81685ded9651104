"""What a pack tells its surroundings while it works, and what it asks of them."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from bfc_core.specs import Measurement


@runtime_checkable
class Observer(Protocol):
    """Receives progress; answers which runs are no longer wanted. Calls come from the training thread."""

    def progressed(self, step: int, steps: int) -> None:
        """Work done so far, in optimiser steps for networks and in solved systems for kernels.

        With ``step == steps`` only the evaluation of what was fitted is left.
        """

    def measured(self, run: int, measurements: Sequence[Measurement]) -> None:
        """Numbers of the run at index ``run`` of the pack."""

    def cancelled(self) -> frozenset[int]:
        """Indices of the pack's runs that shall stop; asked a few times a second."""

    def stop_requested(self) -> bool:
        """Whether the whole pack shall save a checkpoint and stop (a preemption, not a cancel)."""


class SilentObserver:
    """Nobody is watching and nobody cancels."""

    def progressed(self, step: int, steps: int) -> None:
        """Drop it."""

    def measured(self, run: int, measurements: Sequence[Measurement]) -> None:
        """Drop it."""

    def cancelled(self) -> frozenset[int]:
        """Nothing is cancelled."""
        return frozenset()

    def stop_requested(self) -> bool:
        """Nobody asks."""
        return False
