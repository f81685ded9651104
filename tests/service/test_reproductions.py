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


def test_a_claim_that_does_not_hold_fails_the_preset(api: Api):
    def kernels_learn_too(run: RunSpec) -> Report:
        return Report(outcome=Outcome.SUCCEEDED, metrics=Metrics(nmse=1e-6), seconds=1)

    api.client.post(f"/v1/reproductions/{NAME}")
    api.finish_all(kernels_learn_too)
    checked = api.get(f"/v1/reproductions/{NAME}/check").json()
    assert checked["verdict"] == "failed"
    assert [finding["holds"] for finding in checked["findings"]] == [True, True, False, False]
