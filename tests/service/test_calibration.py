"""Estimates follow what finished runs of the same learner took on this deployment, and say so."""

import pytest
from sqlalchemy import text

from bfc_core.packing import estimate_run, planned_flops
from bfc_core.specs import Metrics, Outcome, Report, RunSpec
from service.experiments.calibration import SOUGHT_AMONG, calibrations
from service.models import Report as StoredReport
from service.models import Run
from service.runs import lifecycle
from tests.service.conftest import SMALL, Api
from tests.service.database_work import work
from tests.service.lifecycle_bench import Bench, reports_of
from tests.service.lifecycle_bench import bench as bench

SLOW = {"kind": "nearest_neighbours"}
UNSEEN = {"kind": "linear"}


def spec(first_seed: int, seeds: int, *learners: dict, n: int = 64) -> dict:
    return SMALL | {"learners": list(learners), "n": n, "seeds": list(range(first_seed, first_seed + seeds))}


def plan(api: Api, body: dict) -> dict:
    answer = api.client.post("/v1/experiments", json=body, params={"dry_run": True})
    assert answer.status_code == 200, answer.text
    return answer.json()


def took(times: dict[int, float]):
    """Seconds as multiples of the estimate, by seed."""

    def report_of(run: RunSpec) -> Report:
        seconds = times[run.seed] * estimate_run(run).seconds
        return Report(outcome=Outcome.SUCCEEDED, metrics=Metrics(nmse=0.5), seconds=seconds)

    return report_of


def test_a_plan_is_corrected_by_what_finished_runs_took_and_says_how_far_they_were(api: Api) -> None:
    body = spec(100, 4, SLOW, UNSEEN)
    counted = plan(api, body)
    assert [learner["calibration"] for learner in counted["learners"]] == [None, None]

    api.submitted(**spec(0, 4, SLOW))
    api.finish_all(took(dict.fromkeys(range(4), 30.0)))
    assert plan(api, body)["learners"][0]["calibration"] is None, "four runs say too little"

    # The median is 30, whatever one run took that waited for hours.
    api.submitted(**spec(10, 5, SLOW, n=96))
    api.finish_all(took({10: 10.0, 11: 10.0, 12: 20.0, 13: 10.0, 14: 5000.0}))
    corrected = plan(api, body)
    slow, unseen = corrected["learners"]
    assert slow["calibration"]["runs"] == 9
    assert slow["calibration"]["factor"] == pytest.approx(30.0)
    # |log(ratio / 30)|: four times 0, log 1.5, thrice log 3, one far away; the fifth of nine is log 1.5.
    assert slow["calibration"]["median_error"] == pytest.approx(0.5)
    assert slow["estimated_seconds"] == pytest.approx(30 * counted["learners"][0]["estimated_seconds"])
    assert unseen == counted["learners"][1]
    total = slow["estimated_seconds"] + unseen["estimated_seconds"]
    assert corrected["estimated_seconds"] == pytest.approx(total)


def test_what_is_accepted_counts_against_quotas_as_it_was_planned(api: Api) -> None:
    body = spec(200, 3, SLOW)
    planned = plan(api, body)
    experiment = api.submitted(**body)
    with api.database.reading() as session:
        stored = session.execute(
            text("SELECT sum(estimated_seconds) FROM packs WHERE status = 'queued'")
        ).scalar_one()
    assert stored == pytest.approx(planned["estimated_seconds"])
    api.finish_all()
    assert api.get(f"/v1/experiments/{experiment['id']}").json()["status"] == "succeeded"


def test_flops_are_corrected_by_the_runs_that_counted_them(api: Api) -> None:
    learner = {"kind": "forward_lofi"}
    body = spec(300, 4, learner)
    counted = plan(api, body)["learners"][0]

    def counting(run: RunSpec) -> Report:
        flops = 3 * planned_flops(run) if run.seed >= 5 else None
        seconds = 2 * estimate_run(run).seconds
        return Report(outcome=Outcome.SUCCEEDED, metrics=Metrics(nmse=0.5), seconds=seconds, flops=flops)

    api.submitted(**spec(0, 9, learner))
    api.finish_all(counting)
    four = plan(api, body)["learners"][0]
    assert (four["calibration"]["runs"], four["calibration"]["flops"]) == (9, None), (
        "four counts say too little"
    )
    assert four["estimated_flops"] == counted["estimated_flops"]

    api.submitted(**spec(9, 1, learner))
    api.finish_all(counting)
    five = plan(api, body)["learners"][0]
    assert five["calibration"]["flops"] == {"factor": 3.0, "runs": 5, "median_error": 0.0}
    assert five["calibration"]["factor"] == pytest.approx(2.0)
    assert five["estimated_flops"] == 3 * counted["estimated_flops"]


def test_networks_of_one_pack_are_one_measurement(api: Api) -> None:
    """They share its seconds: many runs of one busy moment say no more than one, and hide no other pack."""
    learner = {"kind": "joint", "width": 9}

    def taking(factor: float):
        def report_of(run: RunSpec) -> Report:
            seconds = factor * estimate_run(run).seconds
            return Report(outcome=Outcome.SUCCEEDED, metrics=Metrics(nmse=0.5), seconds=seconds)

        return report_of

    for number, factor in enumerate((2.0, 2.0, 2.0, 3.0, 1.0)):
        assert plan(api, spec(5000, 1, learner))["learners"][0]["calibration"] is None
        api.submitted(**spec(4000 + 50 * number, 40 if factor == 1.0 else 2, learner))
        api.finish_all(taking(factor))
    calibration = plan(api, spec(5000, 1, learner))["learners"][0]["calibration"]
    assert calibration["factor"] == pytest.approx(2.0)
    assert calibration["runs"] == 5


def test_only_the_newest_runs_are_ranked_by_pack(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of twelve runs the six older ones are not looked at."""
    learner = {"kind": "oracle"}
    monkeypatch.setattr("service.experiments.calibration.SOUGHT_AMONG", 6)
    for first, factor in ((6000, 50.0), (6100, 2.0)):
        api.submitted(**spec(first, 6, learner))
        api.finish_all(took(dict.fromkeys(range(first, first + 6), factor)))
    calibration = plan(api, spec(6200, 1, learner))["learners"][0]["calibration"]
    assert (calibration["runs"], calibration["factor"]) == (6, pytest.approx(2.0))


def add_finished(bench: Bench, first: int, count: int) -> None:
    """Copies of the one finished run with its report, each of which ended a second before the one ahead of it."""
    is_sqlite = bench.database.is_sqlite
    ended = (
        "datetime('now', '-' || number || ' seconds')"
        if is_sqlite
        else "now() - number * interval '1 second'"
    )
    name = "lower(printf('%032x', number))" if is_sqlite else "CAST(lpad(to_hex(number), 32, '0') AS uuid)"
    numbers = (
        f"(WITH RECURSIVE numbers(number) AS (SELECT {first} UNION ALL SELECT number + 1 FROM numbers "
        f"WHERE number < {first + count - 1}) SELECT number FROM numbers) AS numbers"
    )
    with bench.database.writing() as session:
        for model, changed in (
            (Run, {"id": name, "member": "number", "finished_at": ended}),
            (StoredReport, {"run_id": name}),
        ):
            table = model.__table__
            columns = [column.name for column in table.columns]
            values = ", ".join(changed.get(column, f"copied.{column}") for column in columns)
            one = f"(SELECT * FROM {table.name} LIMIT 1) AS copied"
            session.execute(
                text(
                    f"INSERT INTO {table.name} ({', '.join(columns)}) SELECT {values} FROM {numbers} CROSS JOIN {one}"
                )
            )
    with bench.database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("ANALYZE"))


def test_a_plan_is_corrected_at_the_same_price_however_much_has_finished(bench: Bench) -> None:
    bench.accept(seeds=1)
    claim = bench.claimed()
    bench.do(lifecycle.complete, claim, reports_of(claim))

    def correct() -> None:
        with bench.database.writing() as session:
            calibrations(session, ["joint"])

    costs, first = [], 1
    for count in (2 * SOUGHT_AMONG, 6 * SOUGHT_AMONG):
        add_finished(bench, first, count)
        first += count
        costs.append(work(bench.database, correct))
    # The newest have been cancelled.
    newest = "SELECT finished_at FROM runs ORDER BY finished_at DESC LIMIT 1 OFFSET :count"
    with bench.database.writing() as session:
        session.execute(
            text(f"UPDATE runs SET status = 'cancelled' WHERE finished_at > ({newest})"),
            {"count": 3 * SOUGHT_AMONG},
        )
    costs.append(work(bench.database, correct))
    assert costs[0] > SOUGHT_AMONG
    assert max(costs) < 1.2 * costs[0]
