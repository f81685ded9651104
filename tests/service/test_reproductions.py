"""Presets over HTTP: listed, started, checked."""

import pytest

from bfc_core.reproductions.presets import REPRODUCTIONS
from bfc_core.specs import Metrics, Outcome, Report, RunSpec
from tests.service.conftest import Api

NAME = "kernel-lower-bound"


def as_claimed(run: RunSpec) -> Report:
    hierarchical = run.learner.kind == "joint"
    metrics = Metrics(
        nmse=1e-6 if hierarchical else 0.8,
        variance_explained={2: 0.9, 3: 1.0 if hierarchical else 0.01 * run.seed},
    )
    return Report(outcome=Outcome.SUCCEEDED, metrics=metrics, seconds=1)


def test_every_preset_is_listed_with_what_it_expects(api: Api):
    items = api.get("/v1/reproductions").json()["items"]
    assert [item["name"] for item in items] == list(REPRODUCTIONS)
    assert all(item["shows"] and item["expectations"] for item in items)
    one = api.get(f"/v1/reproductions/{NAME}").json()
    assert one["experiments"]["hard-instance"]["target"]["kind"] == "kernel_hard_instance"
    assert api.get("/v1/reproductions/nope").json()["code"] == "reproduction_not_found"


def test_a_preset_is_started_and_checked_when_its_runs_have_ended(api: Api):
    early = api.get(f"/v1/reproductions/{NAME}/check")
    assert (early.status_code, early.json()["code"]) == (409, "reproduction_not_started")
    answer = api.client.post(f"/v1/reproductions/{NAME}")
    assert answer.status_code == 202
    assert answer.headers["Location"] == answer.json()["check"]
    assert answer.json()["experiments"]["hard-instance"]["status"] == "queued"

    key = {"Idempotency-Key": "once"}
    first, again = (api.client.post("/v1/reproductions/agnostic-floor", headers=key).json() for _ in range(2))
    assert len(first["experiments"]) == 4
    assert {role: one["id"] for role, one in first["experiments"].items()} == {
        role: one["id"] for role, one in again["experiments"].items()
    }

    unfinished = api.get(answer.json()["check"]).json()
    assert unfinished["verdict"] == "unfinished"
    assert {finding["found"] for finding in unfinished["findings"]} == {0, None}

    api.finish_all(as_claimed)
    passed = api.get(answer.json()["check"]).json()
    assert passed["verdict"] == "passed"
    by_sentence = {finding["sentence"]: finding for finding in passed["findings"]}
    assert by_sentence["nMSE of joint"]["found"] == pytest.approx(1e-6)
    assert by_sentence["nMSE of the best kernel"]["expected"] == "≥ 0.3"
    (experiment,) = passed["experiments"].values()
    assert experiment["status"] == "succeeded"


def test_every_preset_can_be_started_and_asked_for_its_verdict(api: Api):
    for name, preset in REPRODUCTIONS.items():
        answer = api.client.post(f"/v1/reproductions/{name}")
        assert answer.status_code == 202, f"{name}: {answer.text}"
        started = answer.json()["experiments"]
        assert {role: one["name"] for role, one in started.items()} == {
            role: spec.name for role, spec in preset.experiments.items()
        }
        checked = api.get(answer.json()["check"]).json()
        assert checked["verdict"] == "unfinished"
        assert [finding["sentence"] for finding in checked["findings"]] == [
            each.sentence for each in preset.expectations
        ]
        # Nothing has run: the next test shall not have to finish thousands of runs.
        for one in started.values():
            cancelled = api.client.post(f"/v1/experiments/{one['id']}/cancel")
            assert cancelled.status_code in {200, 202}, cancelled.text


def test_a_claim_that_does_not_hold_or_has_no_number_fails_the_preset(api: Api):
    def nothing_corrected(run: RunSpec) -> Report:
        return Report(outcome=Outcome.SUCCEEDED, metrics=Metrics(nmse=1.0, error=0.5), seconds=1)

    # Another preset than above: finished cells are reused, so that one would pass again.
    api.client.post("/v1/reproductions/classification")
    api.finish_all(nothing_corrected)
    checked = api.get("/v1/reproductions/classification/check").json()
    assert checked["verdict"] == "failed"
    found = [(finding["found"], finding["holds"]) for finding in checked["findings"]]
    assert found == [(1, True), (0.5, False), (1, False), (None, False), (0.5, True)]
