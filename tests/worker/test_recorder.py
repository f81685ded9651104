"""What a recorder costs the database: a transaction for what is new, none for what has been said."""

import math
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import event, func, select

from bfc_core.specs import Measurement
from service.config import Settings
from service.database import Database, database_now
from service.models import AttemptOutcome, Event, EventName, Pack
from service.models import Measurement as Row
from service.runs import lifecycle
from service.runs.resumption import pause_experiment
from tests.service.conftest import database_url as database_url
from tests.service.lifecycle_bench import Bench, reports_of
from tests.service.lifecycle_bench import bench as bench
from worker.child import PipeObserver
from worker.child_process import ChildProcess
from worker.recorder import Recorder
from worker.supervision import EndingKind, Supervision

MANY = [Measurement(name="nmse", step=step, value=0.5).point for step in range(1200)]


@contextmanager
def counted(database: Database) -> Iterator[list[str]]:
    """Transactions of the block that wrote something, by their first such statement."""
    found: list[str] = []
    fresh: set[int] = set()

    def begun(connection) -> None:
        fresh.add(id(connection.connection.driver_connection))

    def executed(connection, _cursor, statement: str, *_rest: object) -> None:
        key = id(connection.connection.driver_connection)
        if key in fresh and statement.lstrip().startswith(("UPDATE", "INSERT", "DELETE")):
            fresh.discard(key)
            found.append(statement.split()[1])

    event.listen(database.engine, "begin", begun)
    event.listen(database.engine, "before_cursor_execute", executed)
    try:
        yield found
    finally:
        event.remove(database.engine, "begin", begun)
        event.remove(database.engine, "before_cursor_execute", executed)


def wait(fact: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def settings(folder: Path, **changes: object) -> Settings:
    quick = {"data_dir": folder, "control_interval": 0.02, "progress_interval": 0.02}
    return Settings.model_validate(quick | changes)


def stored(bench: Bench) -> int:
    with bench.database.reading() as session:
        return session.scalar(select(func.count()).select_from(Row)) or 0


def test_a_pack_that_ends_before_the_first_turn_is_one_transaction(bench: Bench, tmp_path: Path) -> None:
    experiment = bench.accept()
    claim = bench.claimed()
    recorder = Recorder(bench.database, claim, settings(tmp_path, control_interval=60))
    recorder.start()
    recorder.progressed(10, 10)
    recorder.measured(claim.run_ids[0], MANY)
    with counted(bench.database) as transactions:
        recorder.end(
            lambda session: lifecycle.complete(session, claim, reports_of(claim)),
            AttemptOutcome.FINISHED,
            lambda: False,
        )
    assert transactions == ["packs"]
    assert stored(bench) >= len(MANY)
    assert bench.statuses(experiment) == ["succeeded"] * 3
    pack = bench.pack(claim.pack_id)
    assert (pack.step, pack.steps) == (10, 10)
    # The end says more to those who wait than the progress of a moment before.
    assert EventName.RUN_PROGRESS not in {each.name for each in bench.events(experiment)}


def test_turns_write_what_is_new_once_and_renew_the_lease_with_it(bench: Bench, tmp_path: Path) -> None:
    bench.accept()
    claim = bench.claimed(lease=timedelta(seconds=1))
    recorder = Recorder(bench.database, claim, settings(tmp_path, lease=600, heartbeat_interval=300))
    before = stored(bench)
    with counted(bench.database) as transactions:
        recorder.measured(claim.run_ids[0], MANY)
        recorder.measured(claim.run_ids[1], MANY)
        recorder.progressed(5, 10)
        recorder.saved(5, "file", "0" * 64)
        recorder.start()
        wait(lambda: stored(bench) == before + 2 * len(MANY) and bench.pack(claim.pack_id).step == 5)
        time.sleep(0.2)  # some ten turns with nothing to say
        recorder.stop()
    assert transactions == ["packs", "packs"], "one of 2000 measurements, one of the rest and everything else"
    pack = bench.pack(claim.pack_id)
    assert (pack.step, pack.steps, pack.checkpoint_step, pack.checkpoint_uri) == (5, 10, 5, "file")
    with bench.database.reading() as session:
        assert pack.lease_until > database_now(session) + timedelta(seconds=300)
        told = session.scalars(select(Event).where(Event.pack_id == claim.pack_id)).all()
    assert [each.payload["step"] for each in told if each.name is EventName.RUN_PROGRESS] == [5]


def test_without_news_a_heartbeat_keeps_the_lease(bench: Bench, tmp_path: Path) -> None:
    bench.accept()
    claim = bench.claimed(lease=timedelta(seconds=1))
    first = bench.pack(claim.pack_id).lease_until
    recorder = Recorder(bench.database, claim, settings(tmp_path, lease=600, heartbeat_interval=0.05))
    recorder.start()
    wait(lambda: bench.pack(claim.pack_id).lease_until > first + timedelta(seconds=300))
    recorder.stop()


@pytest.mark.parametrize("progresses", [True, False], ids=["while it writes", "while it is silent"])
def test_a_pause_and_a_cancel_are_seen(bench: Bench, tmp_path: Path, *, progresses: bool) -> None:
    experiment = bench.accept()
    claim = bench.claimed()
    recorder = Recorder(bench.database, claim, settings(tmp_path))
    step = 0

    def seen(fact: Callable[[], object]) -> bool:
        nonlocal step
        step += 1
        if progresses:
            recorder.progressed(step, 10_000)
        return bool(fact())

    recorder.start()
    bench.do(lifecycle.cancel_run, claim.run_ids[1])
    wait(lambda: seen(lambda: recorder.cancelled == {claim.run_ids[1]}))
    bench.do(pause_experiment, experiment.id)
    wait(lambda: seen(lambda: recorder.is_held))
    # The recorder may renew the lease in between.
    wait(lambda: (bench.expire(claim), bench.do(lifecycle.reap, 3))[-1])
    wait(lambda: seen(lambda: recorder.is_fenced))
    recorder.stop()


def test_what_is_left_of_many_measurements_is_stored_at_the_end(bench: Bench, tmp_path: Path) -> None:
    bench.accept()
    claim = bench.claimed()
    before = stored(bench)
    recorder = Recorder(bench.database, claim, settings(tmp_path, control_interval=60))
    for run in claim.run_ids:
        recorder.measured(run, MANY)
    recorder.end(lambda session: lifecycle.release(session, claim), AttemptOutcome.RELEASED, lambda: False)
    assert stored(bench) == before + 3 * len(MANY)
    assert bench.pack(claim.pack_id).status == "queued"
    with bench.database.reading() as session:
        assert session.scalar(select(Pack.worker_id).where(Pack.id == claim.pack_id)) is None


def test_what_a_child_measures_is_what_is_stored(bench: Bench, tmp_path: Path) -> None:
    """All the way: the child's line, the worker's reading of it, the row."""
    bench.accept()
    claim = bench.claimed()
    own = settings(tmp_path, control_interval=60)
    recorder = Recorder(bench.database, claim, own)
    upper, lower = multiprocessing.Pipe(duplex=False)
    _, control = multiprocessing.Pipe(duplex=False)
    observer = PipeObserver(lower, None)
    points = [
        Measurement(name="nmse", step=3, value=0.1 + 0.2),
        Measurement(name="level_coefficient", step=3, stage="joint", level=2, value=1),
        Measurement(name="form_error", step=10**9, stage="größer", level=1, value=math.inf),
    ]
    observer.measured(2, points[:1])
    observer.measured(0, points)
    observer.progressed(3, 7)
    observer.send("finished")
    supervision = Supervision(ChildProcess(None, control, upper), claim, recorder, own, threading.Event())
    assert supervision.watch(lambda _seconds: None).kind is EndingKind.FINISHED
    recorder.end(lambda session: lifecycle.release(session, claim), AttemptOutcome.RELEASED, lambda: False)
    with bench.database.reading() as session:
        found = session.scalars(select(Row).order_by(Row.id)).all()
    assert [(row.run_id, (row.name, row.step, row.stage, row.level, row.value)) for row in found] == [
        (claim.run_ids[2], points[0].point),
        *((claim.run_ids[0], point.point) for point in points),
    ]
    assert bench.pack(claim.pack_id).step == 3


def test_a_word_on_progress_is_few_statements(bench: Bench, tmp_path: Path) -> None:
    """Up to twice a second for every pack: time (or BEGIN), guard, points, links, lock, event, shares, event."""
    bench.accept()
    claim = bench.claimed()
    recorder = Recorder(bench.database, claim, settings(tmp_path))
    recorder.measured(claim.run_ids[0], MANY[:10])
    recorder.progressed(1, 2)
    statements: list[str] = []

    def executed(_connection, _cursor, statement: str, *_rest: object) -> None:
        statements.append(statement)

    event.listen(bench.database.engine, "before_cursor_execute", executed)
    try:
        recorder._turn()
    finally:
        event.remove(bench.database.engine, "before_cursor_execute", executed)
    assert len(statements) == 8, statements
