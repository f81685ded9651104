"""When a slot takes its next pack: late, once, and not for long."""

import math
from concurrent.futures import Executor, Future

import pytest

from worker.claim_ahead import PATIENCE_SECONDS, ClaimAhead
from worker.forecast import Forecast


class AtOnce(Executor):
    """Does everything in the calling thread."""

    def submit(self, function, *arguments):
        future: Future = Future()
        future.set_result(function(*arguments))
        return future


class Waiting:
    """What was claimed; wanted until somebody says otherwise."""

    is_unwanted = False


class Slot:
    """A clock, what may be claimed, and what was given back."""

    def __init__(self, *claimable: object) -> None:
        self.now, self.may_claim = 100.0, True
        self.asked, self.returned = 0, []
        self._claimable = list(claimable)
        self.ahead = ClaimAhead(
            self.claim, self.returned.append, lambda: self.may_claim, 0.2, AtOnce(), lambda: self.now
        )

    def claim(self):
        self.asked += 1
        return self._claimable.pop(0) if self._claimable else None


def test_the_next_pack_is_claimed_when_the_end_is_near_and_only_once() -> None:
    waiting = Waiting()
    slot = Slot(waiting, Waiting())
    for seconds_left in (math.inf, 5.0, 0.21):
        slot.ahead.look(seconds_left)
    assert slot.asked == 0
    for seconds_left in (0.2, 0.1, 0.0):
        slot.ahead.look(seconds_left)
    assert slot.asked == 1
    assert slot.ahead.taken() is waiting
    assert slot.ahead.taken() is None


def test_a_slot_that_holds_two_claims_takes_no_third() -> None:
    waiting = Waiting()
    slot = Slot(waiting)
    slot.may_claim = False
    slot.ahead.look(0.0)
    assert (slot.asked, slot.ahead.taken()) == (0, None)
    slot.may_claim = True
    slot.ahead.look(0.0)
    assert slot.ahead.taken() is waiting


def test_what_waits_for_an_end_that_does_not_come_is_given_back_and_not_taken_again() -> None:
    waiting = Waiting()
    slot = Slot(waiting, Waiting())
    slot.ahead.look(0.1)
    slot.now += PATIENCE_SECONDS
    slot.ahead.look(0.1)
    assert slot.returned == []
    slot.now += 0.1
    slot.ahead.look(0.1)
    slot.ahead.look(0.0)
    assert (slot.returned, slot.asked, slot.ahead.taken()) == ([waiting], 1, None)


def test_what_is_not_wanted_any_more_is_given_back_at_once() -> None:
    """Paused, cancelled or lost: the pack that computes may take hours still."""
    waiting = Waiting()
    slot = Slot(waiting, Waiting())
    slot.ahead.look(0.1)
    slot.ahead.look(0.1)
    assert slot.returned == []
    waiting.is_unwanted = True
    slot.ahead.look(0.1)
    slot.ahead.look(0.0)
    assert (slot.returned, slot.asked, slot.ahead.taken()) == ([waiting], 1, None)


def test_an_empty_queue_is_asked_once() -> None:
    slot = Slot()
    slot.ahead.look(0.1)
    slot.now += 2 * PATIENCE_SECONDS
    slot.ahead.look(0.0)
    assert (slot.asked, slot.returned, slot.ahead.taken()) == (1, [], None)


def test_the_end_is_foreseen_by_the_pace_of_the_last_steps() -> None:
    forecast = Forecast()
    assert forecast.seconds_left(0.0) == math.inf
    forecast.progressed(1.0, 0, 100)
    assert forecast.seconds_left(1.0) == math.inf
    forecast.progressed(2.0, 10, 100)
    assert forecast.seconds_left(2.0) == pytest.approx(9.0)
    forecast.progressed(3.0, 60, 100)
    assert forecast.seconds_left(3.2) == pytest.approx(0.6)
    # No step since: nothing new is known of the pace.
    forecast.progressed(3.5, 60, 100)
    assert forecast.seconds_left(3.5) == pytest.approx(0.3)
    assert forecast.seconds_left(9.0) == 0.0
    forecast.progressed(9.5, 100, 100)
    assert forecast.seconds_left(9.5) == 0.0


def test_a_pack_of_which_only_the_evaluation_is_left_is_near_its_end() -> None:
    forecast = Forecast()
    forecast.progressed(1.0, 7, 7)
    assert forecast.seconds_left(1.0) == 0.0
