"""What a run cost: in its answer, in exports, in the comparison's budgets, in the plan and in the counters."""

import csv
import io
import json

import pyarrow.parquet
import pytest
from sqlalchemy import text

from bfc_core.packing import planned_flops
from bfc_core.specs import ExperimentSpec, Report, RunSpec
from service.models import Attempt
from service.runs import lifecycle
from tests.service.conftest import SMALL, Api, report
from tests.service.test_telemetry import scraped

FLOPS = {"algorithm_1": 8_000_000_000_000_000_001, "layerwise": 10**9, "matched_compute_control": 10**9}
"""The first is beyond what a double can hold."""

PEAK = 3 * 2**30


def counted(run: RunSpec) -> Report:
    tried = {"candidates_tried": 145} if run.learner.kind == "kernel_ridge" else {}
    return report(run).model_copy(
        update={
            "flops": FLOPS.get(run.learner.kind),
            "seconds": 9.0 if run.learner.kind == "algorithm_1" else 3.0,
            "selection": tried,
        }
    )


def finished(api: Api, **changes: object) -> dict:
    experiment = api.submitted(**changes)
    while (claim := api.claim()) is not None:
        with api.database.writing() as session:
            reports = {run.id: counted(run.spec) for run in claim.runs}
            lifecycle.complete(session, claim, reports, PEAK + claim.pack_id)
    return experiment


def test_a_run_answers_its_flops_and_the_peak_of_the_process_that_it_shared(api: Api) -> None:
    experiment = finished(api)
    runs = api.get(experiment["links"]["runs"]).json()["items"]
    assert len(runs) == 8
    with api.database.reading() as session:
        packs = {
            str(row.id): (row.pack_id, row.together)
            for row in session.execute(
                text(
                    "SELECT runs.id, runs.pack_id, packs.members AS together FROM runs "
                    "JOIN packs ON packs.id = runs.pack_id"
                )
            )
        }
    found = {key.replace("-", ""): value for key, value in packs.items()}
    for run in runs:
        pack_id, together = found[run["id"].replace("-", "")]
        assert run["flops"] == FLOPS.get(run["learner"]["kind"])
        assert (run["peak_memory_bytes"], run["pack_members"]) == (PEAK + pack_id, together)
        assert api.get(f"/v1/runs/{run['id']}").json() == run
    assert {run["pack_members"] for run in runs} == {2, 6}, "kernels have a pack of their own"


def test_every_export_has_the_costs_to_the_last_digit(api: Api) -> None:
    experiment = finished(api, seeds=1)
    base = experiment["links"]["self"]
    rows = list(csv.DictReader(io.StringIO(api.get(experiment["links"]["results"]).text)))
    objects = [json.loads(line) for line in api.get(f"{base}/results.ndjson").text.splitlines()]
    table = pyarrow.parquet.read_table(io.BytesIO(api.get(f"{base}/results.parquet").content)).to_pylist()
    assert [row["flops"] for row in objects] == [row["flops"] for row in table]
    assert [row["flops"] for row in rows] == [
        "" if row["flops"] is None else str(row["flops"]) for row in objects
    ]
    assert FLOPS["algorithm_1"] in [row["flops"] for row in table]
    assert all(int(row["peak_memory_bytes"]) > PEAK and int(row["pack_members"]) >= 1 for row in rows)


def test_a_comparison_declares_budgets_and_labels_those_that_differ(api: Api) -> None:
    experiment = finished(api, seeds=3)
    answer = api.get(experiment["links"]["comparison"]).json()
    cells = {cell["learner"]["kind"]: cell for cell in answer["cells"]}
    assert cells["algorithm_1"]["flops"]["median"] == pytest.approx(FLOPS["algorithm_1"])
    assert (cells["layerwise"]["steps"]["median"], cells["layerwise"]["trials"]["median"]) == (40, 1)
    assert cells["kernel_ridge"]["flops"]["median"] is None, "what did not count is not known, not zero"
    assert cells["kernel_ridge"]["trials"]["median"] == 145
    unequal = {ratio["label"]: ratio["unequal_budgets"] for ratio in answer["ratios"]}
    assert unequal["layerwise"] == ["flops", "seconds"]
    (kernel,) = (label for label in unequal if label.startswith("kernel_ridge"))
    assert unequal[kernel] == ["trials", "seconds"]
    (warning,) = (warning for warning in answer["warnings"] if warning.startswith("budgets are not those of"))
    assert "layerwise: flops, seconds" in warning


def test_equal_budgets_are_not_remarked_on(api: Api) -> None:
    experiment = api.submitted(seeds=3)
    api.finish_all()
    answer = api.get(experiment["links"]["comparison"]).json()
    assert all(ratio["unequal_budgets"] == [] for ratio in answer["ratios"])
    assert not any("budgets" in warning for warning in answer["warnings"])


def test_a_plan_expects_the_flops_of_every_learner_and_counts_what_is_reused_as_nothing(api: Api) -> None:
    # Of these no other test of the module has finished enough for a calibration.
    learners = [{"kind": "joint"}, {"kind": "staged_spectral"}]
    body = SMALL | {"seeds": [71, 72], "learners": learners}
    answer = api.client.post("/v1/experiments", json=body, params={"dry_run": True}).json()
    by_kind: dict[str, int] = {}
    for run in ExperimentSpec.model_validate(answer["spec"]).runs():
        by_kind[run.learner.kind] = by_kind.get(run.learner.kind, 0) + planned_flops(run)
    assert {learner["kind"]: learner["estimated_flops"] for learner in answer["learners"]} == by_kind
    assert answer["estimated_flops"] == sum(by_kind.values())
    api.submitted(**body)
    api.finish_all()
    again = api.client.post("/v1/experiments", json=body, params={"dry_run": True}).json()
    assert (again["reused_cells"], again["estimated_flops"]) == (4, 0)


def test_flops_are_counted_for_the_operator(api: Api) -> None:
    key = ("layerwise",)
    before = scraped(api).get("bfc_train_flops_total", {}).get(key, 0.0)
    finished(api, learners=[{"kind": "layerwise"}], seeds=2)
    assert scraped(api)["bfc_train_flops_total"][key] == before + 2 * FLOPS["layerwise"]


def test_an_attempt_has_a_peak_only_where_it_has_finished(api: Api) -> None:
    api.submitted(learners=[{"kind": "linear"}], seeds=2)
    claim = api.claim()
    assert claim is not None
    with api.database.writing() as session:
        lifecycle.release(session, claim)
    claim = api.claim()
    assert claim is not None
    with api.database.writing() as session:
        lifecycle.complete(session, claim, {run.id: counted(run.spec) for run in claim.runs}, PEAK)
    with api.database.reading() as session:
        attempts = [session.get_one(Attempt, (claim.pack_id, fence)) for fence in (1, 2)]
    assert [(attempt.members, attempt.peak_memory_bytes) for attempt in attempts] == [(2, None), (2, PEAK)]


def test_what_the_version_before_wrote_is_read_as_unknown(api: Api) -> None:
    experiment = api.submitted(learners=[{"kind": "linear"}], seeds=1)
    api.finish_all()
    with api.database.writing() as session:
        session.execute(text("UPDATE attempts SET members = NULL, peak_memory_bytes = NULL"))
        session.execute(text("UPDATE reports SET flops = NULL"))
    (run,) = api.get(experiment["links"]["runs"]).json()["items"]
    assert run["status"] == "succeeded"
    assert (run["flops"], run["peak_memory_bytes"], run["pack_members"]) == (None, None, None)
    assert api.get(experiment["links"]["results"]).status_code == 200
    assert api.get(f"{experiment['links']['self']}/results.parquet").status_code == 200
