"""Further rows of the fault matrix: the API's crash points, the child's ends, disks, brokers, everything at once."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from kombu import Connection
from sqlalchemy import event, inspect, text
from sqlalchemy.exc import OperationalError

from migrations.current import current_revision
from migrations.newest import newest_revision
from service.broker_check import broker_warnings, rabbitmq_warnings
from service.config import Settings
from service.database import open_database
from service.jobs import queue_name
from service.models import AttemptOutcome, Base, PackStatus
from service.runs import lifecycle
from tests.worker.conftest import QUICK, ROOT, _deploy
from tests.worker.own_servers import OwnRedis
from tests.worker.test_faults import KERNEL, LONG, SHORT, undisturbed
from worker.recorder import Recorder

SPEC = {
    "name": "faults",
    "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
    "learners": [KERNEL],
    "n": 64,
    "dim": 6,
    "seeds": 2,
    "budget": {"test_samples": 64},
}


# --- the API dies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "was_stored"),
    [
        pytest.param("before_accept", False, marks=pytest.mark.faults),
        ("after_accept", True),
        pytest.param("after_publish", True, marks=pytest.mark.faults),
    ],
)
def test_an_api_that_dies_while_it_accepts_neither_loses_nor_doubles(embedded, point, was_stored) -> None:
    key = {"Idempotency-Key": "once"}
    victim = embedded.start_api(crash_point=point)
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{victim.url}/v1/experiments", json=SPEC, headers=key)
    assert victim.process.wait(30) == -signal.SIGKILL
    assert len(embedded.packs()) == (1 if was_stored else 0)
    heir = embedded.start_api()
    answer = httpx.post(f"{heir.url}/v1/experiments", json=SPEC, headers=key)
    assert answer.status_code == 202
    assert ("Idempotency-Replayed" in answer.headers) == was_stored
    embedded.start_worker()
    embedded.wait(lambda: all(pack.status is PackStatus.FINISHED for pack in embedded.packs()))
    embedded.check()
    assert len(embedded.packs()) == 1


# --- the child dies ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["in_training", "segfault", "while_saving", "before_result_file"])
def test_a_child_that_dies_once_is_made_good_with_the_same_numbers(embedded, point) -> None:
    embedded.start_worker(crash_point=point, crash_attempts="1", checkpoint_interval="0.01")
    experiment = embedded.submit(SHORT)
    assert embedded.wait_for_end(experiment) == "succeeded"
    embedded.check()
    assert [a.outcome for a in embedded.attempts()] == [AttemptOutcome.CRASHED, AttemptOutcome.FINISHED]
    reports = embedded.reports()
    assert [reports[run.id].nmse for run in embedded.runs(experiment)] == undisturbed(embedded, experiment)


def test_a_child_that_raises_fails_its_runs_at_once_and_says_why(embedded) -> None:
    embedded.start_worker(crash_point="raise")
    experiment = embedded.submit(SHORT, seeds=1)
    assert embedded.wait_for_end(experiment) == "failed"
    [run] = embedded.runs(experiment)
    assert run.error_code == "internal_error"
    assert run.message == "a defect of this program: RuntimeError: a defect that a test asked for"
    [attempt] = embedded.attempts()  # an error of the program is not tried again
    # Where it happened is for whoever runs this: in the attempt's row, which the API does not show, and in the log.
    assert "Traceback" in attempt.error_text
    assert embedded.workers[0].has_said("worker/child.py")
    answer = httpx.get(f"{embedded.start_api().url}/v1/runs/{run.id}").text
    assert run.message in answer
    assert "Traceback" not in answer
    assert str(ROOT) not in answer
    embedded.check()


def test_a_torn_newest_checkpoint_is_passed_over_for_an_older_one(embedded) -> None:
    victim = embedded.start_worker()
    # Long enough to be found with two checkpoints, on a fast machine too.
    experiment = embedded.submit(LONG | {"steps_per_stage": 4000})
    folder = embedded.settings.data_dir / "packs"
    embedded.wait(lambda: len(list(folder.rglob("step-*.pt"))) >= 2)
    victim.kill()
    embedded.wait(lambda: len(embedded.processes()) == 0)
    older, newest = sorted(folder.rglob("step-*.pt"))[-2:]
    newest.write_bytes(newest.read_bytes()[:-100])
    assert older.exists()
    embedded.start_worker()
    assert embedded.wait_for_end(experiment) == "succeeded"
    embedded.check()
    reports = embedded.reports()
    assert [reports[run.id].nmse for run in embedded.runs(experiment)] == undisturbed(embedded, experiment)


# --- the database -----------------------------------------------------------------------------------------------


def test_a_connection_cut_at_commit_is_neither_lost_nor_done_twice(deployment) -> None:
    """The first COMMIT is done and its answer is lost; the second one's statement never arrives."""
    for is_done in (True, False):
        deployment.submit(SHORT)
        with deployment.database.writing() as session:
            claim = lifecycle.claim(
                session, queue="train.cpu", worker_id="test", device="cpu", lease=deployment.settings.lease
            )
        recorder = Recorder(deployment.database, claim, deployment.settings)
        recorder.start()
        with cut_at_commit(deployment.database, is_done=is_done) as cuts:
            recorder.end(
                lambda session, claim=claim: lifecycle.release(session, claim),
                AttemptOutcome.RELEASED,
                lambda: False,
            )
        assert cuts == [1]
        released = [a for a in deployment.attempts() if a.pack_id == claim.pack_id]
        assert [a.outcome for a in released] == [AttemptOutcome.RELEASED]
        with deployment.database.writing() as session:
            lifecycle.cancel_experiment(session, claim.experiment_id)
    deployment.check()


@contextmanager
def cut_at_commit(database, *, is_done: bool):
    """Lose one COMMIT of a transaction that ended an attempt, before or after it is done."""
    cuts: list[int] = []
    engine = database._writing_engine
    ending: set[int] = set()

    def note(connection, _cursor, statement, *_rest) -> None:
        if statement.startswith("UPDATE attempts"):
            ending.add(id(connection.connection.dbapi_connection))

    def cut(connection) -> None:
        if id(connection.connection.dbapi_connection) in ending and not cuts:
            cuts.append(1)
            if is_done:
                connection.connection.dbapi_connection.commit()
            raise OperationalError("COMMIT", {}, ConnectionResetError("the connection is gone"))

    event.listen(engine, "before_cursor_execute", note)
    event.listen(engine, "commit", cut)
    try:
        yield cuts
    finally:
        event.remove(engine, "before_cursor_execute", note)
        event.remove(engine, "commit", cut)


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.servers)])
def test_migrations_killed_half_way_leave_nothing_and_go_through_the_next_time(
    request, tmp_path, database
) -> None:
    url = (
        f"sqlite:///{tmp_path / 'bfc.db'}"
        if database == "sqlite"
        else request.getfixturevalue("new_postgres")
    )
    suicide = """
import os, signal
from sqlalchemy import Engine, event
from migrations.upgrade import upgrade
from service.config import Settings
from service.database import open_database

@event.listens_for(Engine, "before_cursor_execute")
def die(connection, cursor, statement, *rest):
    if "CREATE TABLE measurements" in statement:
        os.kill(os.getpid(), signal.SIGKILL)

upgrade(open_database(Settings().database_url))
"""
    environment = os.environ | {"BFC_DATABASE_URL": url}  # noqa: TID251 - what a process inherits
    for _ in range(2):
        killed = subprocess.run([sys.executable, "-c", suicide], cwd=ROOT, env=environment, check=False)
        assert killed.returncode == -signal.SIGKILL
    opened = open_database(url)
    assert current_revision(opened) is None
    assert not set(inspect(opened.engine).get_table_names()) & set(Base.metadata.tables)
    subprocess.run([sys.executable, "-m", "migrations"], cwd=ROOT, env=environment, check=True)
    assert current_revision(opened) == newest_revision()
    assert set(inspect(opened.engine).get_table_names()) >= set(Base.metadata.tables)
    opened.dispose()


def test_a_full_disk_delays_a_pack_and_does_not_spoil_it(embedded, tmp_path) -> None:
    """The folder of the packs is a file system without room; with room again the pack goes through."""
    packs = embedded.settings.data_dir / "packs"
    packs.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(packs)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a small file system")
    try:
        embedded.start_worker(crash_limit="1000")
        experiment = embedded.submit(SHORT)
        embedded.wait(lambda: any(a.outcome is not None for a in embedded.attempts()))
        subprocess.run(["mount", "-o", "remount,size=100m", str(packs)], check=True)
        assert embedded.wait_for_end(experiment) == "succeeded"
        embedded.check()
    finally:
        embedded.stop()
        subprocess.run(["umount", "-l", str(packs)], check=True)


# --- the broker -------------------------------------------------------------------------------------------------


def test_a_broker_whose_settings_would_break_something_is_warned_of(tmp_path) -> None:
    redis = OwnRedis(tmp_path)
    settings = Settings(broker_url=redis.url)
    try:
        assert ["nothing over a restart" in warning for warning in broker_warnings(settings)] == [True]
        redis.kill()
        redis.start("--appendonly", "yes", "--maxmemory-policy", "allkeys-lru")
        assert ["allkeys-lru" in warning for warning in broker_warnings(settings)] == [True]
    finally:
        redis.kill()
    assert broker_warnings(Settings(broker_url="filesystem://")) == []
    assert [len(rabbitmq_warnings(version)) for version in ("3.8.9", "3.11.0", "3.12.0", "4.1.2", "")] == [
        1,
        1,
        0,
        0,
        0,
    ]


@pytest.mark.servers
def test_a_worker_whose_queue_is_another_kind_of_queue_ends_and_says_so(on_rabbitmq) -> None:
    """Not the closed channel of a message held too long: no second try would go better."""
    settings = on_rabbitmq.settings
    with Connection(settings.broker_url) as connection:
        connection.default_channel.queue_declare(queue_name(settings, settings.queue), durable=True)
    worker = on_rabbitmq.start_worker()
    assert worker.process.wait(60) != 0
    assert worker.has_said("PRECONDITION_FAILED")


@pytest.fixture
def on_rabbitmq(request, tmp_path):
    yield from _deploy(request, tmp_path, "sqlite", "rabbitmq")


@pytest.mark.faults
@pytest.mark.servers
def test_a_broker_frozen_emptied_and_restarted_twice_costs_time_and_no_work(
    tmp_path, own_broker_deployment
) -> None:
    redis, deployment = own_broker_deployment
    api = deployment.start_api()
    deployment.start_worker()

    seeds = iter(range(100))

    def submit() -> None:
        answer = httpx.post(f"{api.url}/v1/experiments", json=SPEC | {"seeds": [next(seeds)]}, timeout=30)
        assert answer.status_code == 202

    submit()
    redis.signal(signal.SIGSTOP)
    for _ in range(3):
        submit()
    redis.signal(signal.SIGCONT)
    for _ in range(2):
        redis.kill()  # it keeps nothing: every message is lost
        submit()
        redis.start()
        submit()
    deployment.wait(lambda: all(pack.status.is_terminal for pack in deployment.packs()))
    assert len(deployment.packs()) == 8
    deployment.check()


@pytest.fixture
def own_broker_deployment(request, tmp_path):
    redis = OwnRedis(tmp_path)
    try:
        yield from (
            (redis, deployment)
            for deployment in _deploy(request, tmp_path, "sqlite", "own", broker_url=redis.url)
        )
    finally:
        redis.kill()


# --- everything -------------------------------------------------------------------------------------------------


class Stack:
    """``python -m service.embedded`` on one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder.parent / f"{folder.name}.log"

    def up(self) -> subprocess.Popen:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BFC_")}  # noqa: TID251
        pace = QUICK | {"BFC_CHILD_THREADS": "1", "BFC_BROKER_PREFIX": f"stack-{self.folder.parent.name}."}
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "service.embedded", "--data-dir", str(self.folder), "--port", "0"],
                cwd=ROOT,
                env=inherited | pace,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 120
        while not self.answers(process.pid):
            assert process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return process

    def answers(self, pid: int) -> bool:
        try:
            state = json.loads((self.folder / "embedded.json").read_text())
            self.url = state["url"]
            return state["pid"] == pid and httpx.get(f"{self.url}/healthz").status_code == 200
        except (OSError, ValueError, httpx.TransportError):
            return False

    def processes(self) -> list[psutil.Process]:
        mine = f"stack-{self.folder.parent.name}."
        found = []
        for process in psutil.process_iter():
            try:
                if (
                    process.environ().get("BFC_BROKER_PREFIX") == mine
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def wait_until_gone(self) -> None:
        deadline = time.monotonic() + 60
        while self.processes():
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("victims", ["everything", pytest.param("the supervisor", marks=pytest.mark.faults)])
def test_a_stack_killed_in_the_middle_of_its_work_goes_on_where_it_was(request, tmp_path, victims) -> None:
    stack = Stack(tmp_path / "stack")
    first = stack.up()
    first_mapped = mapped(first)
    try:
        spec = SPEC | {"learners": [LONG | {"steps_per_stage": 2000}]}
        experiment = httpx.post(f"{stack.url}/v1/experiments", json=spec).json()["id"]
        database = open_database(f"sqlite:///{stack.folder / 'bfc.db'}")
        request.addfinalizer(database.dispose)

        def scalar(statement: str) -> object:
            with database.reading() as session:
                return session.execute(text(statement)).scalar_one()

        wait(lambda: scalar("SELECT max(checkpoint_step) FROM packs"))
        if victims == "everything":
            for process in stack.processes():
                process.kill()
        else:
            first.kill()
        first.wait()
        stack.wait_until_gone()
        saved = scalar("SELECT max(checkpoint_step) FROM packs")
        second = stack.up()
        # The database's package brings this one, whose library is seen from outside.
        assert has_loaded(first_mapped, "pydantic_core"), "it has migrated"
        assert not has_loaded(mapped(second), "pydantic_core"), (
            "nothing is to be migrated: nobody waits for that"
        )
        refused = subprocess.run(
            [sys.executable, "-m", "service.embedded", "--data-dir", str(stack.folder), "--port", "0"],
            cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert (refused.returncode, "runs in" in refused.stderr) == (3, True), "a second stack on one folder"
        wait(
            lambda: (
                httpx.get(f"{stack.url}/v1/experiments/{experiment}").json()["status"]
                in {"succeeded", "failed"}
            )
        )
        assert httpx.get(f"{stack.url}/v1/experiments/{experiment}").json()["status"] == "succeeded"
        assert scalar("SELECT max(fence) FROM attempts") == 2
        if victims == "everything":
            assert scalar("SELECT max(crash_step) FROM packs") >= saved > 0, "it went on from its checkpoint"
        else:  # the worker saw its supervisor die, saved, and gave the pack back
            assert scalar("SELECT outcome FROM attempts WHERE fence = 1") == "released"
        assert scalar("SELECT count(*) FROM reports") == 2
        second.terminate()
        assert second.wait(60) == 0
        stack.wait_until_gone()
    finally:
        for process in stack.processes():
            process.kill()


def mapped(process: subprocess.Popen) -> list[str]:
    return [file.path for file in psutil.Process(process.pid).memory_maps()]


def has_loaded(files: list[str], package: str) -> bool:
    return any(f"/{package}/" in file for file in files)


def wait(fact, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.1)
