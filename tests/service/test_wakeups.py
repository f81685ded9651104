"""Lost wake-ups are found and sent again at a cost that does not depend on how many packs wait."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from sqlalchemy import event, text, update
from sqlalchemy.orm import Session

from service.database import Database, database_now
from service.models import Pack
from service.runs import lifecycle
from tests.service.lifecycle_bench import Bench
from tests.service.lifecycle_bench import bench as bench

FIRST, CAP = timedelta(seconds=5), timedelta(seconds=60)
FEW, MANY = 1_000, 100_000
BATCH = 16
OPS = 10
"""SQLite reports its work every so many instructions of its virtual machine."""


@pytest.fixture
def crowd(bench: Bench) -> Iterator[Bench]:
    """One pack, which others are made from, and tables whose statistics are not left to the next test."""
    bench.accept(seeds=1)
    yield bench
    with bench.database.writing() as session:
        session.execute(text("DELETE FROM packs WHERE worker_id = 'crowd'"))
        session.execute(text("ANALYZE packs"))


def add_packs(bench: Bench, count: int, **columns: str) -> None:
    """Copies of the first pack, with these columns as SQL; due for an hour where nothing else is said."""
    hour_ago = "datetime('now', '-1 hour')" if bench.database.is_sqlite else "now() - interval '1 hour'"
    changed = {"publish_at": hour_ago, "run_after": hour_ago, "worker_id": "'crowd'"} | columns
    names = [column.name for column in Pack.__table__.columns if column.name != "id"]
    values = [changed.get(name, name) for name in names]
    with bench.database.writing() as session:
        session.execute(
            text(
                f"INSERT INTO packs ({', '.join(names)}) "
                "WITH RECURSIVE numbers(number) AS (SELECT 1 UNION ALL "
                f"SELECT number + 1 FROM numbers WHERE number < {count}) SELECT {', '.join(values)} "
                "FROM numbers CROSS JOIN (SELECT * FROM packs ORDER BY id LIMIT 1) AS copied"
            )
        )
        session.execute(text("ANALYZE packs"))


def cost(database: Database, call: Callable[[Session], object]) -> int:
    """What the queries of ``call`` read: tens of instructions (SQLite), or rows by their plans (PostgreSQL)."""
    database.dispose()  # a connection keeps plans of its own, made when the table was small
    if database.is_sqlite:
        turns = []
        with database.reading() as session:
            driver = session.connection().connection.driver_connection
            driver.set_progress_handler(lambda: turns.append(None), OPS)
            call(session)
            driver.set_progress_handler(None, OPS)
        return len(turns)
    asked: list[tuple[str, object]] = []

    def keep(_connection, _cursor, statement: str, parameters: object, *_rest: object) -> None:
        if "packs" in statement and statement.startswith(("SELECT", "WITH")):
            asked.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", keep)
    try:
        with database.reading() as session:
            call(session)
    finally:
        event.remove(database.engine, "before_cursor_execute", keep)
    assert asked
    with database.reading() as session:
        explain = "EXPLAIN (ANALYZE, FORMAT JSON) "
        plans = [
            session.connection().exec_driver_sql(explain + statement, parameters).scalar_one()
            for statement, parameters in asked
        ]
    return round(sum(rows_read(plan["Plan"]) for [plan] in plans))


def rows_read(plan: dict) -> float:
    """Rows that a plan's scans of the packs have met, those included that a filter threw away."""
    own = 0.0
    if plan.get("Relation Name") == "packs":
        met = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
        own = plan["Actual Loops"] * met
    return own + sum(rows_read(part) for part in plan.get("Plans", []))


def repeated(session: Session) -> list[lifecycle.Wakeup]:
    return [
        wakeup
        for queue in lifecycle.due_queues(session)
        for wakeup in lifecycle.due_wakeups(session, queue, FIRST, CAP, BATCH)
    ]


@pytest.mark.parametrize(
    "who",
    ["all due in one queue", "due in three queues", "held by a pause", "published a moment ago"],
)
def test_what_a_tick_reads_does_not_grow_with_what_waits(crowd: Bench, who: str) -> None:
    future = "datetime('now', '+1 hour')" if crowd.database.is_sqlite else "now() + interval '1 hour'"
    columns = {
        "all due in one queue": {},
        "due in three queues": {"queue": "'train.' || (number % 3)"},
        "held by a pause": {"held_at": "created_at"},
        # They stand before one that is due, in the order of claims.
        "published a moment ago": {"publish_at": future, "priority": "7"},
    }[who]
    add_packs(crowd, FEW, **columns)
    with crowd.database.writing() as session:
        session.execute(update(Pack).where(Pack.worker_id.is_(None)).values(publish_at=database_now(session)))
    few = cost(crowd.database, repeated)
    add_packs(crowd, MANY - FEW, **columns)
    many = cost(crowd.database, repeated)
    with crowd.database.reading() as session:
        queues, wakeups = lifecycle.due_queues(session), repeated(session)
    if who == "due in three queues":
        assert queues == ["train.0", "train.1", "train.2", "train.cpu"]
        assert [wakeup.queue for wakeup in wakeups] == [
            *BATCH * ["train.0"],
            *BATCH * ["train.1"],
            *BATCH * ["train.2"],
            "train.cpu",
        ]
    else:
        assert queues == ["train.cpu"]
        assert len(wakeups) == (BATCH if who == "all due in one queue" else 1)
    assert many <= 1.2 * few + 5, "a hundred times as many packs, and nothing more to read"
    if not crowd.database.is_sqlite:
        assert many <= 3 * (len(queues) + len(wakeups)) + 2


def test_those_due_longest_come_first_and_the_next_call_takes_others(crowd: Bench) -> None:
    add_packs(crowd, 3 * BATCH, priority="number % 5")
    seen: list[int] = []
    for _ in range(3):
        wakeups = crowd.do(lifecycle.due_wakeups, "train.cpu", FIRST, CAP, BATCH)
        seen += [wakeup.pack_id for wakeup in wakeups]
    assert len(set(seen)) == 3 * BATCH
    assert crowd.do(lifecycle.due_queues) == []


def test_two_reconcilers_send_each_wake_up_once(crowd: Bench) -> None:
    """On PostgreSQL the second passes over what the first holds; on SQLite it waits for it."""
    add_packs(crowd, BATCH)
    if crowd.database.is_sqlite:
        ids = [
            w.pack_id for _ in range(2) for w in crowd.do(lifecycle.due_wakeups, "train.cpu", FIRST, CAP, 9)
        ]
    else:
        with crowd.database.writing() as one, crowd.database.writing() as other:
            ids = [
                wakeup.pack_id
                for session in (one, other)
                for wakeup in lifecycle.due_wakeups(session, "train.cpu", FIRST, CAP, 9)
            ]
    assert len(ids) == len(set(ids)) == BATCH
