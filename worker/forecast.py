"""When the steps of a pack will be done, by the pace at which its last ones were."""

import math


class Forecast:
    """Follows the progress of one pack. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._last: tuple[float, int] | None = None
        self._ends_at = math.inf

    def progressed(self, now: float, step: int, steps: int) -> None:
        """Note that ``step`` of ``steps`` are done."""
        if step >= steps:
            self._ends_at = now
        elif self._last is not None and step > self._last[1]:
            then, before = self._last
            self._ends_at = now + (steps - step) * (now - then) / (step - before)
        self._last = (now, step)

    def seconds_left(self, now: float) -> float:
        """Until the last step is done: infinite as long as no pace is known, 0 at the end."""
        return max(0.0, self._ends_at - now)
