"""Claims on real databases, without any process: who gets a pack, for how long, and who takes it back."""

import threading
import time
from datetime import timedelta

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError

from bfc_core.specs import Measurement
from migrations.upgrade import upgrade
from service import models
from service.database import database_now, open_database
from service.models import (
    AttemptOutcome,
    ExperimentStatus,
    Pack,
    PackStatus,
)
from service.runs import claims, lifecycle
from service.runs.claims import FencedError
from tests.service.lifecycle_bench import DIED, LEASE, LIMIT, Bench, reports_of
from tests.service.lifecycle_bench import bench as bench


def test_a_claim_marks_its_runs_and_its_fence_grows(bench: Bench) -> None:
    experiment = bench.accept()
    first = bench.claimed()
    assert len(first.runs) == 3
    assert [run.spec.seed for run in first.runs] == [0, 1, 2]
    assert bench.statuses(experiment) == ["running"] * 3
    assert bench.experiment(experiment).status is ExperimentStatus.RUNNING
    assert bench.claim() is None
    bench.do(lifecycle.release, first)
    second = bench.claimed()
    assert (first.fence, second.fence) == (1, 2)
    assert [run.attempts for run in bench.runs(experiment)] == [2, 2, 2]


def test_the_most_urgent_pack_is_claimed_first(bench: Bench) -> None:
    bench.accept()
    urgent = bench.accept(priority=5)
    assert bench.claimed().experiment_id == urgent.id


def test_two_workers_never_claim_one_pack(bench: Bench) -> None:
    for _ in range(12):
        bench.accept(seeds=1)
    barrier = threading.Barrier(4)
    claimed: list[int] = []

    def work(name: str) -> None:
        barrier.wait()
        while (claim := bench.claim(name)) is not None:
            claimed.append(claim.pack_id)

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 12
    assert len(set(claimed)) == 12


def test_a_late_owner_can_write_nothing(bench: Bench) -> None:
    experiment = bench.accept()
    late = bench.claimed("host/0/late")
    bench.expire(late)
    assert bench.do(lifecycle.reap, LIMIT)
    assert bench.statuses(experiment) == ["queued"] * 3
    owner = bench.claimed("host/1/owner")
    point = Measurement(name="loss", step=1, value=1.0).point
    for write in (
        lambda s: claims.record(s, late, claims.News(), LEASE),
        lambda s: claims.record(s, late, claims.News(progress=(1, 2))),
        lambda s: claims.record(s, late, claims.News(checkpoint=(1, "file", "0" * 64))),
        lambda s: claims.record(s, late, claims.News([(late.run_ids[0], point)])),
        lambda s: claims.wishes(s, late),
        lambda s: lifecycle.complete(s, late, reports_of(late)),
        lambda s: lifecycle.fail(s, late, DIED, is_shared=True),
        lambda s: lifecycle.crash(s, late, DIED, LIMIT),
        lambda s: lifecycle.release(s, late),
        lambda s: lifecycle.settle_cancelled(s, late, late.run_ids),
        lambda s: lifecycle.finish_cancelled(s, late),
    ):
        with pytest.raises(FencedError):
            bench.do(write)
    bench.do(lifecycle.complete, owner, reports_of(owner))
    assert bench.attempts(owner) == [AttemptOutcome.EXPIRED, AttemptOutcome.FINISHED]
    with bench.database.reading() as session:
        assert set(session.scalars(select(models.Report.fence))) == {owner.fence}


def test_a_heartbeat_keeps_a_pack_from_the_reaper(bench: Bench) -> None:
    bench.accept()
    claim = bench.claimed()
    bench.expire(claim)
    bench.do(claims.record, claim, claims.News(), LEASE)
    assert bench.do(lifecycle.reap, LIMIT) == []
    assert bench.pack(claim.pack_id).status is PackStatus.RUNNING


def test_a_restarted_worker_takes_its_predecessors_packs_at_once(bench: Bench) -> None:
    for _ in range(3):
        bench.accept(seeds=1)
    dead, other, mine = bench.claimed("host/0/dead"), bench.claimed("host/1/x"), bench.claimed("host/0/mine")
    wakeups = bench.do(lifecycle.take_over, "host/0/", LIMIT, mine="host/0/mine")
    assert [wakeup.pack_id for wakeup in wakeups] == [dead.pack_id]
    assert bench.pack(other.pack_id).status is bench.pack(mine.pack_id).status is PackStatus.RUNNING


def test_two_reapers_take_a_pack_once(bench: Bench) -> None:
    bench.accept()
    claim = bench.claimed()
    bench.expire(claim)
    barrier = threading.Barrier(3)
    woken: list[int] = []

    def reap() -> None:
        barrier.wait()
        woken.extend(wakeup.pack_id for wakeup in bench.do(lifecycle.reap, LIMIT))

    threads = [threading.Thread(target=reap) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert woken == [claim.pack_id]
    assert bench.pack(claim.pack_id).crash_count == 1


def test_lost_wakeups_are_repeated_ever_more_rarely(bench: Bench) -> None:
    bench.accept(seeds=1)
    first, cap = timedelta(seconds=5), timedelta(seconds=60)
    gaps = []
    assert bench.do(lifecycle.due_wakeups, "train.cpu", first, cap, 10) == []
    for _ in range(6):
        with bench.database.writing() as session:
            now = database_now(session)
            session.execute(update(Pack).values(publish_at=now))
        assert bench.do(lifecycle.has_due_wakeups)
        [wakeup] = bench.do(lifecycle.due_wakeups, "train.cpu", first, cap, 10)
        gaps.append(round((bench.pack(wakeup.pack_id).publish_at - now).total_seconds()))
    assert gaps == [10, 20, 40, 60, 60, 60]
    assert not bench.do(lifecycle.has_due_wakeups)


def test_a_repeated_measurement_is_kept_once(bench: Bench) -> None:
    bench.accept()
    claim = bench.claimed()
    run = claim.run_ids[0]
    points = [
        (run, Measurement(name="loss", step=1, value=1.5).point),
        (run, Measurement(name="loss", step=1, level=2, value=2.5).point),
        (run, Measurement(name="loss", step=1, stage="train", value=float("nan")).point),
    ]
    bench.do(claims.record, claim, claims.News(points))
    bench.do(lifecycle.crash, claim, DIED, LIMIT)
    again = bench.claimed()
    bench.do(
        claims.record, again, claims.News([*points, (run, Measurement(name="loss", step=2, value=1.0).point)])
    )
    with bench.database.reading() as session:
        found = session.scalars(select(models.Measurement).order_by(models.Measurement.id)).all()
    assert [(m.step, m.level, m.stage, m.value) for m in found] == [
        (1, None, None, 1.5),
        (1, 2, None, 2.5),
        (1, None, "train", None),
        (2, None, None, 1.0),
    ]


@pytest.mark.parametrize("level", [None, 2])
@pytest.mark.parametrize("stage", [None, 'of "Schrödinger", {1,2} \\ NULL'])
@pytest.mark.parametrize("value", [None, 0.1 + 0.2, -5e-324, 1.7976931348623157e308])
def test_a_measurement_is_stored_to_the_last_bit(
    bench: Bench, level: int | None, stage: str | None, value: float | None
) -> None:
    """Also where a whole column is NULL, which an array of PostgreSQL has no type for."""
    bench.accept()
    claim = bench.claimed()
    point = ("loss", 2**62, stage, level, value)
    bench.do(claims.record, claim, claims.News([(run_id, point) for run_id in claim.run_ids]))
    with bench.database.reading() as session:
        found = session.scalars(select(models.Measurement).order_by(models.Measurement.id)).all()
    assert [row.run_id for row in found] == list(claim.run_ids)
    assert {(row.name, row.step, row.stage, row.level, row.value) for row in found} == {point}
    assert {row.fence for row in found} == {claim.fence}


def test_numbers_of_many_sizes_share_a_column(bench: Bench) -> None:
    bench.accept()
    claim = bench.claimed()
    told = [
        (
            claim.run_ids[0],
            ("loss", 10**size, f"stage {size}" if size % 2 else None, size or None, 10.0**-size),
        )
        for size in range(12)
    ]
    bench.do(claims.record, claim, claims.News(told))
    with bench.database.reading() as session:
        found = session.scalars(select(models.Measurement).order_by(models.Measurement.id)).all()
    assert [(row.run_id, (row.name, row.step, row.stage, row.level, row.value)) for row in found] == told


def test_the_answer_to_a_write_says_what_others_want(bench: Bench) -> None:
    bench.accept()
    claim = bench.claimed()
    assert bench.do(claims.record, claim, claims.News(progress=(1, 2))) == claims.Wishes(
        frozenset(), is_held=False
    )
    bench.do(lifecycle.cancel_run, claim.run_ids[1])
    assert bench.do(claims.record, claim, claims.News()) == bench.do(claims.wishes, claim)
    assert bench.do(claims.record, claim, claims.News(progress=(2, 2))).cancelled == {claim.run_ids[1]}


@pytest.mark.servers
def test_who_freezes_in_a_transaction_does_not_hold_a_pack_for_ever(new_postgres: str) -> None:
    # The tables are made without the short limit: a machine that stands still between two of them is no defect.
    upgrade(database := open_database(new_postgres))
    frozen = open_database(new_postgres, idle_timeout=timedelta(seconds=0.5))
    bench = Bench(database)
    experiment = bench.accept()
    claim = bench.claimed()
    bench.expire(claim)
    with frozen.engine.connect() as stopped:
        stopped.execute(text("UPDATE packs SET step = 1"))
        assert bench.do(lifecycle.reap, LIMIT) == []
        deadline = time.monotonic() + 20
        while not bench.do(lifecycle.reap, LIMIT):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with pytest.raises(DBAPIError, match="idle-in-transaction"):
            stopped.execute(text("SELECT 1"))
        stopped.invalidate()
    assert bench.statuses(experiment) == ["queued"] * 3
    for database in (frozen, bench.database):
        database.dispose()
