"""What may break around a pack, and what must come out all the same (docs/decisions and the fault matrix)."""

import os
import signal
import threading
import time

import psutil
import pytest
from sqlalchemy import create_engine, text

from bfc_core.run import execute_pack
from bfc_core.specs import RunSpec
from service.models import AttemptOutcome, PackStatus
from service.runs import lifecycle
from service.runs.resumption import pause_experiment, resume_experiment

LONG = {"kind": "joint", "width": 4, "batch_size": 16, "steps_per_stage": 1200, "step_size": 1e-3}
"""A few seconds of training on a busy machine, for the pack of its seeds."""

ENDLESS = LONG | {"steps_per_stage": 1_000_000}
SHORT = LONG | {"steps_per_stage": 20}
KERNEL = {"kind": "kernel_ridge", "kernel": {"kind": "polynomial"}}


def undisturbed(deployment, experiment_id) -> list[float]:
    specs = [RunSpec.model_validate(run.spec) for run in deployment.runs(experiment_id)]
    return [report.metrics.nmse for report in execute_pack(specs)]


def test_a_killed_worker_loses_nothing(deployment) -> None:
    victim = deployment.start_worker()
    experiment = deployment.submit(LONG)
    deployment.wait_for_checkpoint()
    victim.kill()
    deployment.start_worker()
    assert deployment.wait_for_end(experiment) == "succeeded"
    deployment.check()
    assert [a.outcome for a in deployment.attempts()] == [AttemptOutcome.EXPIRED, AttemptOutcome.FINISHED]
    reports = deployment.reports()
    assert len(reports) == 2
    # Resumed from a checkpoint, and the numbers are those of a run that nobody disturbed.
    found = [reports[run.id].nmse for run in deployment.runs(experiment)]
    assert found == undisturbed(deployment, experiment)


def test_a_worker_elsewhere_takes_over_when_the_lease_ends(deployment) -> None:
    if deployment.settings.broker_url == "filesystem://":
        pytest.skip("the file broker lives on one machine")
    victim = deployment.start_worker()
    experiment = deployment.submit(LONG)
    deployment.wait_for_checkpoint()
    deployment.start_worker(data_dir="elsewhere")
    victim.kill()
    assert deployment.wait_for_end(experiment) == "succeeded"
    deployment.check()
    assert deployment.attempts()[0].error_code == "lease_expired"


def test_a_frozen_worker_that_wakes_is_fenced(deployment) -> None:
    if deployment.settings.broker_url == "filesystem://":
        pytest.skip("two workers on one machine share their slots; the servers show the fence")
    frozen = deployment.start_worker()
    experiment = deployment.submit(LONG | {"steps_per_stage": 2000})
    deployment.wait_for_checkpoint()
    os.kill(frozen.process.pid, signal.SIGSTOP)
    deployment.start_worker(data_dir="elsewhere")
    deployment.wait(lambda: len(deployment.attempts()) == 2)
    os.kill(frozen.process.pid, signal.SIGCONT)
    # By its next heartbeat; or, where it was frozen in the middle of a transaction that the server has ended since and
    # its child has finished meanwhile, by the write of the result.
    deployment.wait(lambda: frozen.has_said("attempt.fenced") or frozen.has_said("pack.lost"))
    assert deployment.wait_for_end(experiment) == "succeeded"
    deployment.check()
    assert {report.fence for report in deployment.reports().values()} == {2}


@pytest.mark.parametrize("point", ["before_commit", "after_commit", "after_claim"])
def test_a_worker_that_dies_at_a_crash_point_is_made_good(embedded, point) -> None:
    deployment = embedded
    victim = deployment.start_worker(crash_point=point)
    experiment = deployment.submit(SHORT)
    assert victim.process.wait(30) == -signal.SIGKILL
    heir = deployment.start_worker()
    assert deployment.wait_for_end(experiment) == "succeeded"
    deployment.check()
    # A result that was finished but not committed is committed without training again.
    assert heir.has_said("pack.result_adopted") == (point == "before_commit")


def test_a_child_that_dies_after_its_result_file_is_adopted(embedded) -> None:
    worker = embedded.start_worker(crash_point="after_result_file")
    experiment = embedded.submit(SHORT)
    assert embedded.wait_for_end(experiment) == "succeeded"
    embedded.check()
    assert worker.has_said("pack.result_adopted")
    assert [a.outcome for a in embedded.attempts()] == [AttemptOutcome.CRASHED, AttemptOutcome.FINISHED]


def test_poison_is_found_in_a_pack_and_named(embedded) -> None:
    embedded.start_worker(crash_point="in_training")
    experiment = embedded.submit(SHORT)
    assert embedded.wait_for_end(experiment) == "failed"
    embedded.check()
    assert [pack.status for pack in embedded.packs()] == [
        PackStatus.SPLIT,
        PackStatus.FAILED,
        PackStatus.FAILED,
    ]
    assert {run.error_code for run in embedded.runs(experiment)} == {"poison"}
    cause = "3 crashes without progress; the last: the training process was ended by SIGKILL"
    assert {run.message for run in embedded.runs(experiment)} == {cause}
    assert len(embedded.attempts()) == 9


def test_a_running_experiment_is_cancelled_within_seconds(deployment) -> None:
    deployment.start_worker()
    experiment = deployment.submit(ENDLESS)
    deployment.wait_for_checkpoint()
    with deployment.database.writing() as session:
        lifecycle.cancel_experiment(session, experiment)
    assert deployment.wait_for_end(experiment) == "cancelled"
    deployment.check()
    assert deployment.reports() == {}


def test_one_run_of_a_pack_is_cancelled_and_the_other_finishes(embedded) -> None:
    embedded.start_worker()
    experiment = embedded.submit(LONG | {"steps_per_stage": 2000})
    embedded.wait_for_checkpoint()
    first, second = embedded.runs(experiment)
    with embedded.database.writing() as session:
        lifecycle.cancel_run(session, first.id)
    embedded.wait(lambda: embedded.runs(experiment)[0].status == "cancelled")
    assert embedded.runs(experiment)[1].status == "running"
    assert embedded.wait_for_end(experiment) == "partially_succeeded"
    embedded.check()
    assert set(embedded.reports()) == {second.id}


def test_a_drained_worker_gives_its_pack_back_with_a_checkpoint(deployment) -> None:
    leaving = deployment.start_worker(checkpoint_interval="3600")
    experiment = deployment.submit(LONG | {"steps_per_stage": 2000})
    deployment.wait(lambda: any(pack.step > 0 for pack in deployment.packs()))
    assert leaving.drain() == 0
    [pack] = deployment.packs()
    assert (pack.status, pack.crash_count) == (PackStatus.QUEUED, 0)
    assert pack.checkpoint_step > 0
    deployment.start_worker()
    assert deployment.wait_for_end(experiment) == "succeeded"
    deployment.check()
    assert [a.outcome for a in deployment.attempts()] == [AttemptOutcome.RELEASED, AttemptOutcome.FINISHED]


def test_a_paused_experiment_is_checkpointed_and_goes_on_with_the_same_numbers(embedded) -> None:
    worker = embedded.start_worker(checkpoint_interval="3600")
    experiment = embedded.submit(LONG | {"steps_per_stage": 2000})
    embedded.wait(lambda: any(pack.step > 0 for pack in embedded.packs()))
    with embedded.database.writing() as session:
        pause_experiment(session, experiment)
    embedded.wait(lambda: embedded.status(experiment) == "paused", 10)
    [pack] = embedded.packs()
    assert (pack.status, pack.crash_count) == (PackStatus.QUEUED, 0)
    assert pack.checkpoint_step > 0
    with embedded.database.writing() as session:
        _, wakeups = resume_experiment(session, experiment)
    embedded.publisher.publish(wakeups)
    assert embedded.wait_for_end(experiment) == "succeeded"
    embedded.check()
    assert [a.outcome for a in embedded.attempts()] == [AttemptOutcome.RELEASED, AttemptOutcome.FINISHED]
    reports = embedded.reports()
    found = [reports[run.id].nmse for run in embedded.runs(experiment)]
    assert found == undisturbed(embedded, experiment)
    assert worker.process.poll() is None


def test_a_pack_whose_message_was_lost_is_found(deployment) -> None:
    deployment.start_worker()
    experiment = deployment.submit(SHORT, KERNEL, publish=False)
    assert deployment.wait_for_end(experiment) == "succeeded"
    deployment.check()


def test_a_message_delivered_often_trains_once(deployment) -> None:
    experiment = deployment.submit(SHORT)
    [pack] = deployment.packs()
    for _ in range(5):
        deployment.publisher.publish([lifecycle.Wakeup(pack.id, pack.queue, pack.priority)])
    deployment.start_worker()
    deployment.start_worker()
    assert deployment.wait_for_end(experiment) == "succeeded"
    deployment.check()
    assert len(deployment.attempts()) == 1


def test_junk_in_the_broker_is_put_away(embedded) -> None:
    folder = embedded.settings.data_dir / "broker"
    folder.mkdir(parents=True)
    queue = f"{embedded.settings.broker_prefix}{embedded.settings.queue}"
    for number, junk in enumerate(
        [b"", b"{", b"[]", b"\xff\xfe", b'{"body": 1}', b'{"body": "", "headers": {}}']
    ):
        (folder / f"{number}_junk.{queue}.msg").write_bytes(junk)
    worker = embedded.start_worker()
    experiment = embedded.submit(SHORT)
    assert embedded.wait_for_end(experiment) == "succeeded"
    # The worker finds the pack in the database, perhaps before it looks into the broker.
    embedded.wait(lambda: len(list(folder.glob("*.junk"))) == 6)
    assert worker.process.poll() is None


def test_limits_of_time_and_memory_end_a_pack_with_their_name(embedded) -> None:
    embedded.start_worker(child_memory_limit_bytes=str(2**20))
    heavy = embedded.submit(ENDLESS, seeds=1)
    assert embedded.wait_for_end(heavy) == "failed"
    assert embedded.runs(heavy)[0].error_code == "memory_limit_exceeded"
    embedded.workers[0].drain()
    embedded.start_worker()
    slow = embedded.submit(ENDLESS, budget={"test_samples": 64, "seconds": 1.0})
    assert embedded.wait_for_end(slow) == "failed"
    assert {run.error_code for run in embedded.runs(slow)} == {"time_limit_exceeded"}
    embedded.check()


@pytest.mark.parametrize("body", [KERNEL, SHORT], ids=["kernel", "network"])
def test_a_run_beyond_the_memory_limit_is_refused_in_words(embedded, body) -> None:
    embedded.start_worker(pack_memory_limit_bytes="1000")
    experiment = embedded.submit(body, seeds=1)
    assert embedded.wait_for_end(experiment) == "failed"
    [run] = embedded.runs(experiment)
    assert "GiB" in run.message
    embedded.check()


def test_a_silent_child_is_stopped_and_tried_again(embedded) -> None:
    embedded.start_worker(stall_timeout="1")
    experiment = embedded.submit(ENDLESS, seeds=1)
    embedded.wait_for_checkpoint()
    [child] = [p for p in embedded.processes() if p.pid == os.getpgid(p.pid) and _is_child(embedded, p)]
    child.suspend()
    embedded.wait(lambda: len(embedded.attempts()) == 2)
    assert embedded.attempts()[0].error_code == "stalled"
    with embedded.database.writing() as session:
        lifecycle.cancel_experiment(session, experiment)
    assert embedded.wait_for_end(experiment) == "cancelled"


@pytest.mark.servers
def test_training_goes_on_while_the_database_is_away(deployment) -> None:
    if deployment.database.is_sqlite:
        pytest.skip("SQLite has no server to lose")
    deployment.start_worker()
    experiment = deployment.submit(LONG)
    deployment.wait_for_checkpoint()
    name = deployment.database.engine.url.database
    server = create_engine(
        deployment.database.engine.url.set(database="postgres"), isolation_level="AUTOCOMMIT"
    )
    with server.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        connection.execute(
            text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        )
        time.sleep(1.5)
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    server.dispose()
    deployment.database.dispose()
    assert deployment.wait_for_end(experiment) == "succeeded"
    deployment.check()
    assert len(deployment.attempts()) == 1, "the attempt outlived the outage"


def test_the_write_lock_held_for_long_delays_and_loses_nothing(embedded) -> None:
    embedded.start_worker()
    experiment = embedded.submit(LONG)
    embedded.wait_for_checkpoint()

    def hold() -> None:
        with embedded.database.writing() as session:
            session.execute(text("SELECT 1"))
            time.sleep(3)

    holder = threading.Thread(target=hold)
    holder.start()
    holder.join()
    assert embedded.wait_for_end(experiment) == "succeeded"
    embedded.check()


def test_no_torch_in_the_worker_process(embedded) -> None:
    worker = embedded.start_worker()
    experiment = embedded.submit(SHORT)
    embedded.wait_for_end(experiment)
    mapped = {os.path.basename(file.path) for file in psutil.Process(worker.process.pid).memory_maps()}  # noqa: PTH119
    assert not [name for name in mapped if "torch" in name]
    # Threads of a child sleep while they wait for each other.
    [helper, *_] = [
        p for p in psutil.Process(worker.process.pid).children() if "OMP_NUM_THREADS" in p.environ()
    ]
    assert helper.environ()["OMP_WAIT_POLICY"] == "PASSIVE"


def _is_child(deployment, process) -> bool:
    return process.pid not in {worker.process.pid for worker in deployment.workers}
