"""One pack computes while the end of the one before is stored: nothing is lost, doubled or held for long."""

import signal
import threading

from sqlalchemy import select

from bfc_core.run import execute_pack
from bfc_core.specs import RunSpec
from service.models import AttemptOutcome, PackStatus, Run
from service.store.opening import open_store
from tests.worker.test_faults import ENDLESS, SHORT
from worker.child_process import ChildStarter
from worker.devices import choose_device
from worker.training import Training

PACKS = {"dim": [6, 7, 8]}
"""Runs of different dims share no pack."""


def test_the_next_pack_computes_before_the_end_of_the_last_is_stored(embedded) -> None:
    """The worker dies with the first result uncommitted: by then its slot works on the second pack."""
    victim = embedded.start_worker(crash_point="before_commit")
    experiment = embedded.submit(SHORT, **PACKS)
    assert victim.process.wait(60) == -signal.SIGKILL
    first, second = embedded.attempts()
    assert (first.outcome, second.outcome) == (None, None)
    heir = embedded.start_worker()
    assert embedded.wait_for_end(experiment) == "succeeded"
    embedded.check()
    assert heir.has_said(f"pack.result_adopted pack_id={first.pack_id}")
    outcomes = [attempt.outcome for attempt in embedded.attempts()]
    assert sorted(outcomes) == 2 * [AttemptOutcome.EXPIRED] + 3 * [AttemptOutcome.FINISHED]
    reports = embedded.reports()
    for dim in PACKS["dim"]:
        runs = [run for run in embedded.runs(experiment) if run.dim == dim]
        alone = execute_pack([RunSpec.model_validate(run.spec) for run in runs])
        assert [reports[run.id].nmse for run in runs] == [report.metrics.nmse for report in alone]


def test_a_slot_holds_two_claims_at_most_while_ends_cannot_be_stored(embedded) -> None:
    """A long write transaction of somebody else: one end waits for it, one pack computes, nothing more is claimed."""
    embedded.start_worker(lease="60", busy_timeout="60")
    experiment = embedded.submit(SHORT, dim=[6, 7, 8, 9, 10])
    embedded.wait(lambda: len(embedded.attempts()) >= 2)
    most, is_over = [0], threading.Event()

    def look() -> None:
        while not is_over.wait(0.005):
            most[0] = max(most[0], sum(pack.status is PackStatus.RUNNING for pack in embedded.packs()))

    watcher = threading.Thread(target=look)
    watcher.start()
    with embedded.database.writing():
        is_over.wait(2)
    assert embedded.wait_for_end(experiment) == "succeeded"
    is_over.set()
    watcher.join()
    embedded.check()
    assert most == [2]
    assert {attempt.outcome for attempt in embedded.attempts()} == {AttemptOutcome.FINISHED}


def test_a_drained_worker_holds_nothing_whatever_its_packs_were_doing(embedded) -> None:
    leaving = embedded.start_worker()
    first = embedded.submit(SHORT, **PACKS)
    endless = embedded.submit(ENDLESS)
    embedded.wait(lambda: any(pack.status is PackStatus.FINISHED for pack in embedded.packs()))
    assert leaving.drain() == 0
    assert not any(pack.status is PackStatus.RUNNING for pack in embedded.packs())
    assert all(pack.crash_count == 0 for pack in embedded.packs())
    assert all(attempt.outcome is not None for attempt in embedded.attempts())
    assert embedded.status(endless) in {"queued", "running"}
    embedded.start_worker()
    assert embedded.wait_for_end(first) == "succeeded"


def test_what_was_claimed_and_never_begun_goes_back_without_a_mark(embedded) -> None:
    experiment = embedded.submit(SHORT)
    starter = ChildStarter("forkserver", waiting=0)
    training = Training(
        embedded.settings,
        embedded.database,
        embedded.publisher,
        starter,
        choose_device("cpu"),
        "worker/of-the-test",
        open_store(embedded.settings),
    )
    try:
        attempt = training._next()
        assert embedded.status(experiment) == "running"
        training._give_back(attempt)
    finally:
        starter.stop()
    [pack] = embedded.packs()
    assert (pack.status, pack.crash_count, pack.worker_id) == (PackStatus.QUEUED, 0, None)
    assert [a.outcome for a in embedded.attempts()] == [AttemptOutcome.RELEASED]
    embedded.start_worker()
    assert embedded.wait_for_end(experiment) == "succeeded"
    embedded.check()


def test_packs_that_a_newer_version_accepted_are_left_to_its_workers_and_hold_up_nothing(embedded) -> None:
    """In the middle of an upgrade the API accepts what an old worker cannot read: here a learner with a new field."""
    experiment = embedded.submit(SHORT, publish=False, **PACKS)
    newer = embedded.packs()[1].id
    with embedded.database.writing() as session:
        for run in session.scalars(select(Run).where(Run.pack_id == newer)):
            run.spec = run.spec | {"learner": run.spec["learner"] | {"warp": 9}}
    old = embedded.start_worker()
    embedded.wait(lambda: [p.status for p in embedded.packs()].count(PackStatus.FINISHED) == 2)
    assert [pack.status for pack in embedded.packs() if pack.id == newer] == [PackStatus.QUEUED]
    assert old.has_said(f"pack.unreadable pack_id={newer}")
    assert len(embedded.attempts()) == 2
    with embedded.database.writing() as session:
        for run in session.scalars(select(Run).where(Run.pack_id == newer)):
            learner = {name: value for name, value in run.spec["learner"].items() if name != "warp"}
            run.spec = run.spec | {"learner": learner}
    assert old.drain() == 0
    embedded.start_worker()
    assert embedded.wait_for_end(experiment) == "succeeded"
    embedded.check()
