"""The next pack of a slot, claimed and prepared beside the present one, shortly before that ends.

A claim, a folder and a child that has read its job take some ten milliseconds, with a database server several times as
many: too long to wait for between packs that last a second. Nobody else can take what is claimed, so it is claimed
late, and given back where the end that was expected does not come.
"""

import time
from collections.abc import Callable
from concurrent.futures import Executor, Future

from worker.attempt import Attempt

PATIENCE_SECONDS = 5.0
"""How long a claimed pack waits for the present one at most."""


class ClaimAhead:
    """Looks ahead of one attempt. Used by the thread that watches it.

    Args:
        claim: claims and prepares the most urgent pack; None where there is none. It does not raise.
        give_back: gives an attempt back that has not begun.
        may_claim: asked whether the slot may hold one more claim now.
        lead_seconds: how long before the expected end to claim.
        beside: where to do it.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        claim: Callable[[], Attempt | None],
        give_back: Callable[[Attempt], None],
        may_claim: Callable[[], bool],
        lead_seconds: float,
        beside: Executor,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._claim, self._give_back, self._may_claim = claim, give_back, may_claim
        self._lead_seconds, self._beside, self._clock = lead_seconds, beside, clock
        self._claimed: Future[Attempt | None] | None = None
        self._asked_at = 0.0
        self._is_spent = False

    def look(self, seconds_left: float) -> None:
        """Claim where the end is near; give back where it was expected too early, or is not wanted. Once each."""
        if self._is_spent:
            return
        now = self._clock()
        if self._claimed is None:
            if seconds_left <= self._lead_seconds and self._may_claim():
                self._asked_at = now
                self._claimed = self._beside.submit(self._claim)
        elif self._claimed.done():
            attempt = self._claimed.result()
            if now - self._asked_at > PATIENCE_SECONDS or (attempt is not None and attempt.is_unwanted):
                self._claimed, self._is_spent = None, True
                if attempt is not None:
                    self._beside.submit(self._give_back, attempt)

    def taken(self) -> Attempt | None:
        """What was claimed, as soon as it is prepared; the caller's from now on."""
        claimed, self._claimed = self._claimed, None
        return None if claimed is None else claimed.result()
