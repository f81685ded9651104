"""Measurements of runs that ended long ago are deleted in batches, and their runs say so."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from bfc_core.specs import Measurement
from service import models
from service.database import database_now
from service.runs import claims, lifecycle, retention
from service.runs.resumption import retry_run
from tests.service.conftest import Api, report
from tests.service.lifecycle_bench import DIED

KEPT = timedelta(days=30)


def measured(api: Api, claim: lifecycle.Claim, points: int = 3) -> None:
    with api.database.writing() as session:
        told = [
            (run.id, Measurement(name="train_loss", step=step, value=1.0).point)
            for run in claim.runs
            for step in range(points)
        ]
        claims.record(session, claim, claims.News(told))


def aged(api: Api, days: float, *run_ids: object) -> None:
    with api.database.writing() as session:
        session.execute(
            update(models.Run)
            .where(models.Run.id.in_(run_ids))
            .values(finished_at=database_now(session) - timedelta(days=days))
        )


def swept(api: Api) -> int:
    batches = 0
    while retention.delete_old_measurements(api.database, KEPT):
        batches += 1
    return batches


def points(api: Api, run_id: object) -> int:
    with api.database.reading() as session:
        query = select(func.count()).where(models.Measurement.run_id == run_id)
        return session.execute(query).scalar_one()


def test_old_ones_go_and_the_run_says_so(api: Api) -> None:
    api.submitted()
    api.submitted()
    old, young = api.claim(), api.claim()
    for claim in (old, young):
        measured(api, claim)
        api.finish(claim)
    aged(api, 31, *old.run_ids)
    aged(api, 29, *young.run_ids)
    running = api.claim()
    measured(api, running)
    assert swept(api) == 1
    gone, kept = (api.get(f"/v1/runs/{claim.run_ids[0]}").json() for claim in (old, young))
    assert gone["measurements_deleted_at"] is not None
    assert gone["metrics"] == report(old.runs[0].spec).metrics.model_dump(mode="json"), "what was found stays"
    assert api.get(f"/v1/runs/{old.run_ids[0]}/measurements").json()["items"] == []
    assert kept["measurements_deleted_at"] is None
    assert points(api, young.run_ids[0]) == points(api, running.run_ids[0]) == 3
    assert swept(api) == 0, "nobody looks at them again"
    api.finish(running)
    api.finish_all()


def test_many_go_in_small_transactions(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_ROWS_A_BATCH", 7)
    api.submitted()
    claim = api.claim()
    measured(api, claim, points=10)
    api.finish(claim)
    aged(api, 31, *claim.run_ids)
    rows = 10 * len(claim.run_ids)
    assert swept(api) == rows // 7 + 1, "the last one finds too few rows, and marks the runs"
    assert all(points(api, run_id) == 0 for run_id in claim.run_ids)
    api.finish_all()


def test_a_run_that_is_tried_again_measures_again(api: Api) -> None:
    api.submitted()
    claim = api.claim()
    measured(api, claim)
    with api.database.writing() as session:
        lifecycle.fail(session, claim, DIED, is_shared=True)
    aged(api, 31, *claim.run_ids)
    assert swept(api) == 1
    with api.database.writing() as session:
        retry_run(session, claim.run_ids[0])
    while (again := api.claim()) is not None:
        measured(api, again, points=1)
        api.finish(again)
    assert swept(api) == 0
    run = api.get(f"/v1/runs/{claim.run_ids[0]}").json()
    assert (run["status"], run["measurements_deleted_at"]) == ("succeeded", None)
    assert points(api, claim.run_ids[0]) == 1
