"""Counts of runs: kept by every change, right under concurrency, repaired, and as cheap in a large grid as a small."""

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import delete, func, select, text, update

from bfc_core.specs import Outcome
from service.models import Experiment, ExperimentRun, ExperimentStatus, RunStatus, Tally, TallyName
from service.runs import claims, lifecycle, settlement, tallies
from service.runs.resumption import pause_experiment, resume_experiment, retry_run
from service.runs.run_counts import recounted
from tests.service.database_work import work
from tests.service.lifecycle_bench import DIED, LIMIT, Bench, reports_of
from tests.service.lifecycle_bench import bench as bench


def check(bench: Bench) -> None:
    """Every experiment's counts, and every tally, are what the runs say."""
    with bench.database.reading() as session:
        for experiment in session.scalars(select(Experiment)):
            found = {status.value: count for status, count in recounted(session, experiment.id).items()}
            assert experiment.runs_by_status == found
        assert tallies.differences(session) == {}


def test_counts_follow_every_change(bench: Bench) -> None:
    experiment = bench.accept(seeds=6)
    check(bench)
    claim = bench.claimed()
    check(bench)
    assert bench.experiment(experiment).runs_by_status == {"running": 6}
    bench.do(lifecycle.crash, claim, DIED, LIMIT)
    check(bench)
    claim = bench.claimed()
    bench.do(lifecycle.cancel_run, claim.run_ids[0])
    bench.do(lifecycle.settle_cancelled, claim, [claim.run_ids[0]])
    check(bench)
    bench.do(pause_experiment, experiment.id)
    bench.do(lifecycle.release, claim)
    check(bench)
    bench.do(resume_experiment, experiment.id)
    claim = bench.claimed()
    bench.do(lifecycle.fail, claim, DIED, is_shared=False)
    check(bench)
    bench.do(lifecycle.fail, bench.claimed(), DIED, is_shared=True)
    claim = bench.claimed()
    bench.do(lifecycle.complete, claim, reports_of(claim, Outcome.DIVERGED))
    claim = bench.claimed()
    bench.expire(claim)
    bench.do(lifecycle.reap, 1)
    check(bench)
    while (claim := bench.claim()) is not None:
        bench.do(lifecycle.complete, claim, reports_of(claim))
    check(bench)
    ended = bench.experiment(experiment)
    assert ended.status is ExperimentStatus.PARTIALLY_SUCCEEDED
    assert ended.runs_by_status == {"cancelled": 1, "failed": 2, "diverged": 1, "succeeded": 2}
    [failed, _] = [run for run in bench.runs(experiment) if run.status is RunStatus.FAILED]
    bench.do(retry_run, failed.id)
    check(bench)
    bench.do(lifecycle.cancel_experiment, experiment.id)
    check(bench)
    assert bench.experiment(experiment).runs_by_status["cancelled"] == 2


def test_counts_are_right_however_many_write(bench: Bench) -> None:
    """Eight workers, cancels and a reaper on three experiments; deadlocks and lost updates would show."""
    experiments = [bench.accept(seeds=40) for _ in range(3)]

    def worker(seed: int) -> None:
        chance = random.Random(seed)
        while (claim := bench.claim(f"host/{seed}/a", timedelta(minutes=5))) is not None:
            bench.do(claims.record, claim, claims.News(progress=(1, 2)))
            if chance.random() < 0.3:
                bench.do(lifecycle.crash, claim, DIED, 100)
            elif chance.random() < 0.3:
                bench.do(lifecycle.release, claim)
            else:
                bench.do(lifecycle.complete, claim, reports_of(claim))

    def canceller(_seed: int) -> None:
        for run in bench.runs(experiments[0])[::4]:
            with suppress(lifecycle.RunAlreadyFinishedError):
                bench.do(lifecycle.cancel_run, run.id)
        bench.do(lifecycle.reap, LIMIT)

    with ThreadPoolExecutor(9) as pool:
        for done in [pool.submit(canceller, 0), *(pool.submit(worker, seed) for seed in range(8))]:
            done.result()
    # A worker that found nothing while others held everything has gone; what they gave back is still there.
    while (claim := bench.claim()) is not None:
        bench.do(lifecycle.complete, claim, reports_of(claim))
    check(bench)
    assert all(bench.experiment(each).finished_at is not None for each in experiments)


def test_a_shared_run_counts_in_every_experiment(bench: Bench) -> None:
    first, second = bench.accept(seeds=2), bench.accept(seeds=2, priority=-1)
    [one, _] = bench.runs(first)
    with bench.database.writing() as session:
        session.add(ExperimentRun(experiment_id=second.id, run_id=one.id, position=99))
        session.get_one(Experiment, second.id).runs_by_status = {"queued": 3}
    claim = bench.claimed()
    bench.do(lifecycle.complete, claim, reports_of(claim))
    check(bench)
    assert bench.experiment(second).runs_by_status == {"queued": 2, "succeeded": 1}


def test_what_a_version_before_the_counts_wrote_is_counted_when_it_is_met(bench: Bench) -> None:
    experiment = bench.accept(seeds=3)
    with bench.database.writing() as session:
        session.execute(update(Experiment).values(runs_by_status=None, reused_runs=None, counted_at=None))
    claim = bench.claimed()
    assert bench.experiment(experiment).runs_by_status == {"running": 3}
    bench.do(lifecycle.complete, claim, reports_of(claim))
    check(bench)


@pytest.mark.parametrize("wrong", [{"queued": 1}, {"queued": 2, "running": 1, "failed": 0}, {"succeeded": 3}])
def test_wrong_counts_are_repaired_by_a_look_at_the_runs(bench: Bench, wrong: dict[str, int]) -> None:
    experiment = bench.accept(seeds=3)
    with bench.database.writing() as session:
        session.execute(update(Experiment).values(runs_by_status=wrong))
    assert bench.do(settlement.repair_counts, experiment.id)
    check(bench)
    assert bench.experiment(experiment).status is ExperimentStatus.QUEUED
    assert not bench.do(settlement.repair_counts, experiment.id)


def test_wrong_counts_never_end_an_experiment(bench: Bench) -> None:
    """As a worker of the version before may leave them while both are at work."""
    experiment = bench.accept(seeds=40)
    claim = bench.claimed()
    with bench.database.writing() as session:
        session.execute(update(Experiment).values(runs_by_status={"running": len(claim.runs)}))
    bench.do(lifecycle.complete, claim, reports_of(claim))
    assert bench.experiment(experiment).finished_at is None
    check(bench)


def test_a_change_costs_the_same_in_a_small_and_in_a_large_grid(bench: Bench) -> None:
    def one_pack() -> None:
        claim = bench.claimed()
        bench.do(claims.record, claim, claims.News(progress=(1, 2)))
        bench.do(lifecycle.complete, claim, reports_of(claim))

    costs = []
    for seeds in (48, 960):
        bench.accept(seeds=seeds)
        if not bench.database.is_sqlite:
            with bench.database.engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("ANALYZE"))
        one_pack()  # whatever is done once only
        costs.append(work(bench.database, one_pack))
        with bench.database.writing() as session:
            session.execute(
                text("UPDATE packs SET run_after = :never WHERE status = 'queued'"), {"never": "2999-01-01"}
            )
    small, large = costs
    assert 0 < large < 1.5 * small, costs


def test_folded_tallies_say_the_same(bench: Bench) -> None:
    def sums() -> dict:
        with bench.database.reading() as session:
            return {key: tally for key, tally in tallies.read_tallies(session).items() if any(tally)}

    bench.accept(seeds=3)
    assert bench.do(tallies.fold) == 0, "few rows are left alone"
    with bench.database.writing() as session:
        for _ in range(tallies.FOLD_ROWS):
            tallies.tally_wait(session, "train.cpu", 0.1)
    before = sums()
    assert bench.do(tallies.fold) > tallies.FOLD_ROWS
    assert sums() == before
    with bench.database.reading() as session:
        assert session.execute(select(func.count()).select_from(Tally)).scalar_one() == len(before)


def test_what_was_not_tallied_is_found_and_a_counter_never_falls(bench: Bench) -> None:
    experiment = bench.accept(seeds=3)
    claim = bench.claimed()
    bench.do(lifecycle.fail, claim, DIED, is_shared=True)
    for run in bench.runs(experiment):
        bench.do(retry_run, run.id)
    ended = tallies.Key(TallyName.RUNS_ENDED, "joint", "failed")
    with bench.database.reading() as session:
        assert tallies.read_tallies(session)[ended][0] == 3, "the rows say 0 by now"
        assert tallies.differences(session) == {}
    with bench.database.writing() as session:
        session.execute(delete(Tally).where(Tally.name == TallyName.RUNS))
        tallies.tally_expired(session)
    repaired = bench.do(tallies.repair)
    assert repaired == {tallies.Key(TallyName.RUNS, "joint", "queued"): (3, 0)}, "expired is not lowered"
    assert bench.do(tallies.repair) == {}
    with bench.database.reading() as session:
        assert tallies.read_tallies(session)[ended][0] == 3
