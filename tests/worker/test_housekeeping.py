"""What a worker looks after beside training: counts that are wrong, tallies, measurements that are old."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select, update

from bfc_core.specs import Measurement
from service import models
from service.config import Settings
from service.database import database_now, open_database
from service.jobs import Publisher
from service.models import Tally
from service.runs import claims, lifecycle, tallies
from service.store.opening import open_store
from tests.service.conftest import migrated, settings_for
from tests.service.lifecycle_bench import Bench, reports_of
from worker.housekeeping import Housekeeping
from worker.slots import WorkerSlot


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    url = f"sqlite:///{tmp_path / 'bfc.db'}"
    migrated(url)
    return settings_for(url, tmp_path, measurement_retention=timedelta(days=30))


@pytest.fixture
def bench(settings: Settings) -> Iterator[Bench]:
    database = open_database(settings.database_url)
    yield Bench(database)
    database.dispose()


@pytest.fixture
def housekeeping(settings: Settings, bench: Bench) -> Iterator[Housekeeping]:
    slot = WorkerSlot(settings.data_dir)
    yield Housekeeping(settings, bench.database, Publisher(settings), slot, open_store(settings), lambda: 0)
    slot.release()


def test_wrong_counts_are_found_and_mended(bench: Bench, housekeeping: Housekeeping) -> None:
    experiment = bench.accept(seeds=3)
    bench.claimed()
    with bench.database.writing() as session:
        session.execute(delete(Tally))
        session.execute(update(models.Experiment).values(runs_by_status={"queued": 3}))
    housekeeping._sweep_beside()
    assert bench.experiment(experiment).runs_by_status == {"queued": 3}, "it was counted a moment ago"
    with bench.database.writing() as session:
        session.execute(
            update(models.Experiment).values(counted_at=database_now(session) - timedelta(hours=1))
        )
    housekeeping._next_tally_check = 0.0
    housekeeping._sweep_beside()
    assert bench.experiment(experiment).runs_by_status == {"running": 3}
    with bench.database.reading() as session:
        assert tallies.differences(session) == {}


def test_tallies_are_folded(bench: Bench, housekeeping: Housekeeping, monkeypatch) -> None:
    monkeypatch.setattr(tallies, "FOLD_ROWS", 1)
    bench.accept(seeds=3)
    bench.claimed()
    housekeeping._sweep()
    with bench.database.reading() as session:
        keys = session.execute(select(Tally.name, Tally.label, Tally.status)).all()
    assert len(keys) == len(set(keys)) > 1


@pytest.mark.parametrize("is_kept", [False, True])
def test_measurements_of_old_runs_are_deleted_if_one_says_so(
    bench: Bench,
    housekeeping: Housekeeping,
    settings: Settings,
    is_kept: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    if is_kept:
        housekeeping._settings = settings.model_copy(update={"measurement_retention": None})
    bench.accept(seeds=3)
    claim = bench.claimed()
    point = Measurement(name="train_loss", step=1, value=1.0).point
    bench.do(claims.record, claim, claims.News([(run_id, point) for run_id in claim.run_ids]))
    bench.do(lifecycle.complete, claim, reports_of(claim))
    with bench.database.writing() as session:
        session.execute(update(models.Run).values(finished_at=database_now(session) - timedelta(days=31)))
    housekeeping._sweep_beside()
    with bench.database.reading() as session:
        left = session.execute(select(func.count()).select_from(models.Measurement)).scalar_one()
    assert left == (3 if is_kept else 0)
