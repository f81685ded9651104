"""The rows of the fault matrix in which a slot holds two packs: one computes, one was claimed ahead and waits."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

import psutil
import pytest
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from service.models import AttemptOutcome, Pack, PackStatus, RunStatus
from service.runs import lifecycle
from service.runs.resumption import pause_experiment, resume_experiment
from service.store.opening import open_store
from tests.worker.conftest import Deployment, WorkerProcess
from tests.worker.test_faults import ENDLESS, LONG, SHORT, undisturbed
from worker.child_process import ChildStarter
from worker.devices import choose_device
from worker.training import Training

SLOW_END = {"dim": 60, "budget": {"test_samples": 200_000}}
"""Its steps are done long before its evaluation: the next pack is claimed, and there is time to see it wait."""

HEAVY = {"kind": "kernel_ridge", "kernel": {"kind": "rbf"}}
"""With n = 6000 a gram of 275 MiB, and seconds to factorise it."""

EXPIRED, FINISHED, RELEASED = AttemptOutcome.EXPIRED, AttemptOutcome.FINISHED, AttemptOutcome.RELEASED


@dataclass
class Pair:
    """A worker whose one slot has a pack in its (suspended) child, and one that waits for it."""

    deployment: Deployment
    worker: WorkerProcess
    first: UUID
    second: UUID
    child: psutil.Process

    def pack(self, which: int) -> Pack:
        return self.deployment.packs()[which]

    def outcomes(self, which: int) -> list[AttemptOutcome | None]:
        pack_id = self.pack(which).id
        return [attempt.outcome for attempt in self.deployment.attempts() if attempt.pack_id == pack_id]

    def go_on(self) -> None:
        with suppress(psutil.NoSuchProcess):
            self.child.resume()

    def finish(self) -> None:
        """Everything succeeds, with the numbers of runs that nobody disturbed."""
        for experiment in (self.first, self.second):
            assert self.deployment.wait_for_end(experiment) == "succeeded"
        self.deployment.check()
        reports = self.deployment.reports()
        for experiment in (self.first, self.second):
            found = [reports[run.id].nmse for run in self.deployment.runs(experiment)]
            assert found == undisturbed(self.deployment, experiment)


def one_waits(
    deployment: Deployment, learner: dict = SHORT, start: Callable[[], WorkerProcess] | None = None
) -> Pair:
    first = deployment.submit(SHORT, seeds=1, **SLOW_END)
    second = deployment.submit(learner, dim=7)
    worker = (start or deployment.start_worker)()
    deployment.wait(lambda: deployment.packs()[1].claimed_ahead)
    child = child_of(deployment, deployment.packs()[0].id)
    assert child is not None, "its evaluation was over before the next pack was seen to wait"
    child.suspend()
    assert [pack.status for pack in deployment.packs()] == 2 * [PackStatus.RUNNING]
    return Pair(deployment, worker, first, second, child)


def child_of(deployment: Deployment, pack_id: int) -> psutil.Process | None:
    """The child that has the pack, known by the log that it writes to."""
    for process in deployment.processes():
        with suppress(OSError):
            if f"/packs/{pack_id}/" in os.readlink(f"/proc/{process.pid}/fd/1"):  # noqa: PTH115
                return process
    return None


def test_a_worker_that_is_killed_leaves_no_mark_on_what_waited(deployment) -> None:
    pair = one_waits(deployment)
    pair.worker.kill()
    pair.go_on()  # it sees its worker's pipe closed, and ends
    deployment.start_worker()
    pair.finish()
    assert [pack.crash_count for pack in deployment.packs()] == [1, 0]
    assert pair.outcomes(0) == pair.outcomes(1) == [EXPIRED, FINISHED]
    assert {a.error_code for a in deployment.attempts() if a.outcome is EXPIRED} == {"worker_died"}


def test_what_waits_is_not_called_poison_for_what_kills_its_worker(embedded) -> None:
    first = embedded.submit(SHORT, seeds=1, **SLOW_END)
    second = embedded.submit(SHORT, dim=7)
    for _ in range(3):
        victim = embedded.start_worker(crash_point="claimed_ahead")
        assert victim.process.wait(60) == -signal.SIGKILL
    embedded.start_worker()
    embedded.wait_for_end(first)  # as poison, unless a checkpoint's progress has forgiven it
    assert embedded.wait_for_end(second) == "succeeded"
    embedded.check()
    guilty, innocent = embedded.packs()
    assert guilty.crash_count > 0
    assert (innocent.fence, innocent.crash_count, innocent.status) == (4, 0, PackStatus.FINISHED)


def test_once_it_has_begun_its_workers_death_counts(embedded) -> None:
    pair = one_waits(embedded, ENDLESS)
    pair.go_on()
    embedded.wait(lambda: pair.pack(1).step > 0)
    assert not pair.pack(1).claimed_ahead
    fence = pair.pack(1).fence
    pair.worker.kill()
    embedded.start_worker()
    embedded.wait(lambda: pair.pack(1).fence > fence)
    assert pair.pack(1).crash_count == 1
    with embedded.database.writing() as session:
        lifecycle.cancel_experiment(session, pair.second)
    assert embedded.wait_for_end(pair.second) == "cancelled"
    embedded.check()


def test_a_drained_worker_gives_back_what_waited(deployment) -> None:
    pair = one_waits(deployment)
    pair.worker.process.terminate()
    deployment.wait(lambda: pair.worker.has_said("worker.draining"))
    pair.go_on()
    assert pair.worker.process.wait(60) == 0
    assert pair.outcomes(1) == [RELEASED]
    assert (pair.pack(1).status, pair.pack(1).claimed_ahead) == (PackStatus.QUEUED, False)
    deployment.start_worker()
    pair.finish()
    assert [pack.crash_count for pack in deployment.packs()] == [0, 0]


def test_what_waits_can_be_paused_while_the_other_computes(embedded) -> None:
    pair = one_waits(embedded)
    with embedded.database.writing() as session:
        pause_experiment(session, pair.second)
    embedded.wait(lambda: embedded.status(pair.second) == "paused")
    assert pair.outcomes(1) == [RELEASED]
    assert pair.pack(0).status is PackStatus.RUNNING, "its child is suspended: nobody waited for it"
    pair.go_on()
    assert embedded.wait_for_end(pair.first) == "succeeded"
    with embedded.database.writing() as session:
        _, wakeups = resume_experiment(session, pair.second)
    embedded.publisher.publish(wakeups)
    pair.finish()
    assert [pack.crash_count for pack in embedded.packs()] == [0, 0]
    assert pair.outcomes(1) == [RELEASED, FINISHED]


def test_what_waits_can_be_cancelled_while_the_other_computes(embedded) -> None:
    pair = one_waits(embedded)
    with embedded.database.writing() as session:
        lifecycle.cancel_experiment(session, pair.second)
    assert embedded.wait_for_end(pair.second) == "cancelled"
    assert pair.pack(0).status is PackStatus.RUNNING
    pair.go_on()
    assert embedded.wait_for_end(pair.first) == "succeeded"
    embedded.check()
    assert set(embedded.reports()) == {run.id for run in embedded.runs(pair.first)}


def test_one_run_of_what_waits_is_cancelled_and_its_mate_finishes(embedded) -> None:
    pair = one_waits(embedded, LONG)
    cancelled, mate = embedded.runs(pair.second)
    with embedded.database.writing() as session:
        lifecycle.cancel_run(session, cancelled.id)
    pair.go_on()
    assert embedded.wait_for_end(pair.second) == "partially_succeeded"
    assert embedded.wait_for_end(pair.first) == "succeeded"
    embedded.check()
    assert [run.status for run in embedded.runs(pair.second)] == [RunStatus.CANCELLED, RunStatus.SUCCEEDED]
    assert mate.id in embedded.reports()


def test_a_child_that_dies_while_it_waits_is_replaced(embedded) -> None:
    pair = one_waits(embedded)
    waiting = child_of(embedded, pair.pack(1).id)
    assert waiting is not None
    waiting.kill()
    embedded.wait(lambda: not psutil.pid_exists(waiting.pid) or waiting.status() == psutil.STATUS_ZOMBIE)
    pair.go_on()
    pair.finish()
    assert pair.worker.has_said(f"child.ended_waiting pack_id={pair.pack(1).id}")
    assert pair.outcomes(0) == pair.outcomes(1) == [FINISHED]


def test_a_frozen_worker_loses_both_and_writes_nothing_more(deployment) -> None:
    if deployment.settings.broker_url == "filesystem://":
        pytest.skip("two workers on one machine share their slots; the servers show the fence")
    pair = one_waits(deployment)
    pair.worker.process.send_signal(signal.SIGSTOP)
    pair.go_on()
    deployment.start_worker(data_dir="elsewhere")
    for experiment in (pair.first, pair.second):
        assert deployment.wait_for_end(experiment) == "succeeded"
    pair.worker.process.send_signal(signal.SIGCONT)
    for which in (0, 1):
        lost = f"pack_id={pair.pack(which).id} fence=1"
        deployment.wait(
            lambda lost=lost: (
                pair.worker.has_said(f"attempt.fenced {lost}") or pair.worker.has_said(f"pack.lost {lost}")
            )
        )
    pair.finish()
    assert {report.fence for report in deployment.reports().values()} == {2}
    assert [pack.crash_count for pack in deployment.packs()] == [1, 0]


def test_poison_that_was_claimed_ahead_is_split_and_takes_nobody_along(embedded) -> None:
    # Without checkpoints, whose progress would forgive.
    pair = one_waits(embedded, ENDLESS, lambda: embedded.start_worker(checkpoint_interval="3600"))
    innocents = [embedded.submit(SHORT, dim=dim, seeds=1) for dim in (8, 9)]
    pair.go_on()

    def is_over() -> bool:
        """Ends the child of every pack of the guilty experiment as soon as it has done a step."""
        if embedded.status(pair.second) == "failed":
            return True
        guilty = {run.pack_id for run in embedded.runs(pair.second)}
        for pack in embedded.packs():
            if pack.id in guilty and pack.status is PackStatus.RUNNING and pack.step > pack.crash_step:
                child = child_of(embedded, pack.id)
                if child is not None:
                    child.kill()
        return False

    embedded.wait(is_over, 240)
    for experiment in (pair.first, *innocents):
        assert embedded.wait_for_end(experiment) == "succeeded"
    embedded.check()
    assert {run.error_code for run in embedded.runs(pair.second)} == {"poison"}
    assert pair.pack(1).status is PackStatus.SPLIT
    spared = {run.pack_id for experiment in (pair.first, *innocents) for run in embedded.runs(experiment)}
    assert {pack.crash_count for pack in embedded.packs() if pack.id in spared} == {0}


def test_too_much_memory_is_the_fault_of_one_pack_of_the_slot(embedded) -> None:
    """Each pack has a process of its own: what one holds is not counted against the next one."""
    light = embedded.submit(ENDLESS, seeds=1)
    worker = embedded.start_worker()
    embedded.wait_for_checkpoint()
    child = child_of(embedded, embedded.packs()[0].id)
    assert child is not None
    limit = child.memory_info().rss + 150 * 2**20
    with embedded.database.writing() as session:
        lifecycle.cancel_experiment(session, light)
    assert embedded.wait_for_end(light) == "cancelled"
    assert worker.drain() == 0
    before = embedded.submit(LONG, seeds=1)
    heavy = embedded.submit(HEAVY, seeds=1, n=6000)
    after = embedded.submit(LONG, seeds=1, dim=7)
    embedded.start_worker(child_memory_limit_bytes=str(limit))
    assert embedded.wait_for_end(heavy) == "failed"
    for experiment in (before, after):
        assert embedded.wait_for_end(experiment) == "succeeded"
    embedded.check()
    assert [run.error_code for run in embedded.runs(heavy)] == ["memory_limit_exceeded"]
    assert {pack.crash_count for pack in embedded.packs()} == {0}


def test_a_claim_that_cannot_be_had_does_not_lose_the_pack_that_computes(embedded, monkeypatch) -> None:
    """No connection was free in time. The pack that computes would be held for ever if nobody stored its end."""
    experiments = [embedded.submit(SHORT, dim=dim) for dim in (6, 7)]
    claim, asked = lifecycle.claim, []

    def sometimes(session, **given: object):
        asked.append(given["is_ahead"])
        if len(asked) == 2:
            raise PoolTimeoutError("QueuePool limit of size 10 overflow 20 reached")
        return claim(session, **given)

    monkeypatch.setattr(lifecycle, "claim", sometimes)
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
    trainer = threading.Thread(target=training.train, args=(1,))
    trainer.start()
    trainer.join()
    starter.stop()
    assert len(asked) > 2
    assert [embedded.status(experiment) for experiment in experiments] == 2 * ["succeeded"]
    embedded.check()
