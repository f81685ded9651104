"""Submitting, reading, waiting, cancelling."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import httpx
import pytest
from sqlalchemy import text

from tests.service.conftest import SMALL, Api, unknown_id


def test_a_submitted_experiment_is_stored_when_the_answer_begins(api: Api):
    for _ in range(5):
        answer = api.post()
        assert answer.status_code == 202
        with api.database.reading() as session:
            found = session.execute(
                text("SELECT count(*) FROM experiments WHERE name = 'small'")
            ).scalar_one()
        assert found >= 1
        assert api.get(answer.headers["Location"]).json()["id"] == answer.json()["id"]


def test_the_answer_says_where_and_when_to_look(api: Api):
    answer = api.post()
    experiment = answer.json()
    assert answer.headers["Location"] == f"/v1/experiments/{experiment['id']}"
    assert int(answer.headers["Retry-After"]) >= 1
    assert experiment["status"] == "queued"
    assert experiment["progress"] == 0
    assert experiment["runs"]["queued"] == experiment["runs"]["total"] == 8
    assert experiment["spec"]["learners"][0]["width"] == 40
    assert datetime.fromisoformat(experiment["created_at"]).utcoffset().total_seconds() == 0
    assert api.get(experiment["links"]["runs"]).status_code == 200


def test_a_dry_run_plans_and_stores_nothing(api: Api):
    before = {table: api.count(table) for table in ("experiments", "runs", "packs", "idempotency_keys")}
    answer = api.post(params={"dry_run": "true"}, headers={"Idempotency-Key": "dry"})
    assert answer.status_code == 200
    plan = answer.json()
    assert plan["cells"] == 8
    assert plan["reused_cells"] == 0
    assert plan["packs"] >= 2
    assert plan["estimated_seconds"] > 0
    assert plan["estimated_memory_bytes"] > 0
    assert [(each["label"], each["cells"]) for each in plan["learners"]] == [
        ("algorithm_1", 2),
        ("layerwise", 2),
        ("matched_compute_control", 2),
        ("kernel_ridge rbf", 2),
    ]
    assert any("seeds" in warning for warning in plan["warnings"])
    assert any("matched_compute_control" in warning for warning in plan["warnings"])
    assert before == {table: api.count(table) for table in before}


@pytest.mark.parametrize(("seconds", "told"), [(0.01, 1), (10_000, 0), (None, 0)])
def test_a_plan_tells_of_packs_that_will_not_keep_their_budget(api: Api, seconds: float | None, told: int):
    spec = SMALL | {"budget": {"test_samples": 64, "seconds": seconds}}
    plan = api.post(spec, params={"dry_run": "true"}).json()
    assert sum("budget.seconds = 0.01" in warning for warning in plan["warnings"]) == told


def test_learners_of_one_name_are_planned_apart(api: Api):
    learners = [{"kind": "algorithm_1", "width": 10}, {"kind": "algorithm_1", "width": 200}]
    plan = api.post(SMALL | {"learners": learners}, params={"dry_run": "true"}).json()
    assert [each["cells"] for each in plan["learners"]] == [2, 2]
    assert len({each["label"] for each in plan["learners"]}) == 2
    small, large = (each["estimated_seconds"] for each in plan["learners"])
    assert small < large


@pytest.mark.parametrize("dry_run", ["true", "false"])
def test_learners_that_the_budget_makes_equal_are_refused(api: Api, dry_run: str):
    before = api.count("experiments")
    learners = [{"kind": "joint", "steps_per_stage": 10}, {"kind": "joint", "steps_per_stage": 20}]
    answer = api.post(SMALL | {"learners": learners}, params={"dry_run": dry_run})
    assert (answer.status_code, answer.json()["code"]) == (422, "plan_refused")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["#/learners/1"]
    assert api.count("experiments") == before


def test_a_label_of_any_length_is_stored(api: Api):
    terms = [{"kind": "ntk", "depth": 3, "bias_variance": k / 10} for k in range(8)]
    kernel = {"kind": "sum", "terms": [{"kind": "product", "factors": terms}] * 2}
    experiment = api.submitted(learners=[{"kind": "kernel_ridge", "kernel": kernel}], seeds=1)
    (run,) = api.get(experiment["links"]["runs"]).json()["items"]
    assert run["label"].startswith("kernel_ridge sum of product of ntk depth 3")


@pytest.mark.parametrize("dry_run", ["true", "false"])
def test_a_kernel_beyond_the_memory_limit_is_refused_before_anything_is_stored(api: Api, dry_run: str):
    before = api.count("experiments")
    answer = api.post(SMALL | {"n": [64, 1_000_000]}, params={"dry_run": dry_run})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["#/learners/2"]
    assert api.count("experiments") == before


@pytest.mark.parametrize("dry_run", ["true", "false"])
def test_a_network_beyond_the_memory_limit_is_refused_before_anything_is_stored(api: Api, dry_run: str):
    before = api.count("experiments")
    learners = [{"kind": "linear"}, {"kind": "algorithm_1"}, {"kind": "layerwise"}]
    answer = api.post(
        SMALL | {"learners": learners, "n": 400_000, "dim": 400, "seeds": 1}, params={"dry_run": dry_run}
    )
    assert answer.status_code == 422
    errors = answer.json()["errors"]
    assert {"#/learners/1", "#/learners/2"} <= {error["pointer"] for error in errors}
    assert all("GiB" in error["detail"] for error in errors)
    assert api.count("experiments") == before


def test_packs_of_networks_are_planned_within_the_memory_limit(api: Api):
    """One run keeps within it, sixteen would not."""
    body = {"learners": [{"kind": "joint"}], "n": 200_000, "dim": 50, "seeds": 16}
    answer = api.post(SMALL | body | {"budget": {"steps_per_stage": 5000}}, params={"dry_run": "true"})
    plan = answer.json()
    assert answer.status_code == 200
    assert 2 <= plan["packs"] < 16
    assert plan["estimated_memory_bytes"] <= api.settings.pack_memory_limit_bytes


def test_one_key_and_one_body_are_one_experiment(api: Api):
    first = api.post(headers={"Idempotency-Key": "one"})
    second = api.post(headers={"Idempotency-Key": "one"})
    assert first.status_code == second.status_code == 202
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.headers["Location"] == first.headers["Location"]
    assert second.json() == first.json()


def test_one_key_and_another_body_are_refused(api: Api):
    api.post(headers={"Idempotency-Key": "two"})
    before = api.count("experiments")
    answer = api.post(SMALL | {"name": "another"}, headers={"Idempotency-Key": "two"})
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert api.count("experiments") == before


def test_fifty_parallel_posts_with_one_key_are_one_experiment(api: Api):
    before = api.count("experiments")
    barrier = threading.Barrier(50)

    def post(_: int) -> httpx.Response:
        barrier.wait()
        return api.post(headers={"Idempotency-Key": "fifty"})

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(post, range(50)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    assert api.count("experiments") == before + 1


def test_a_list_pages_newest_first_without_gap_or_repetition(api: Api):
    names = [f"page {k}" for k in range(5)]
    for name in names:
        api.submitted(name=name)
    found: list[str] = []
    cursor = None
    while len(found) < 5:
        page = api.get("/v1/experiments", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        found += [item["name"] for item in page["items"]]
        assert "spec" not in page["items"][0]
        cursor = page["next_cursor"]
        # What arrives meanwhile must not shift the pages.
        api.submitted(name="later")
    assert found[:5] == names[::-1]


def test_a_list_is_filtered_by_status(api: Api):
    experiment = api.submitted(name="to be cancelled")
    api.client.post(f"/v1/experiments/{experiment['id']}/cancel")
    items = api.get("/v1/experiments", params={"status": "cancelled"}).json()["items"]
    assert items[0]["id"] == experiment["id"]
    assert {item["status"] for item in items} == {"cancelled"}


def test_an_unchanged_experiment_is_304(api: Api):
    path = f"/v1/experiments/{api.submitted()['id']}"
    etag = api.get(path).headers["ETag"]
    assert etag.startswith('"')
    for sent in (etag, f'"other", {etag}', "*"):
        again = api.get(path, headers={"If-None-Match": sent})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
    api.client.post(f"{path}/cancel")
    changed = api.get(path, headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != etag


def test_waiting_ends_with_a_change(api: Api):
    path = f"/v1/experiments/{api.submitted()['id']}"
    etag = api.get(path).headers["ETag"]
    timer = threading.Timer(0.4, lambda: api.client.post(f"{path}/cancel"))
    timer.start()
    started = time.monotonic()
    answer = api.get(path, params={"wait": 50}, headers={"If-None-Match": etag})
    assert answer.json()["status"] == "cancelled"
    assert 0.3 < time.monotonic() - started < 45
    timer.join()


def test_waiting_ends_with_the_time(api: Api):
    path = f"/v1/experiments/{api.submitted()['id']}"
    etag = api.get(path).headers["ETag"]
    started = time.monotonic()
    assert api.get(path, params={"wait": 0.5}, headers={"If-None-Match": etag}).status_code == 304
    assert time.monotonic() - started >= 0.5
    assert api.get(path, params={"wait": 0.3}).json()["status"] == "queued"


def test_many_who_wait_leave_the_connections_to_others(api: Api):
    path = f"/v1/experiments/{api.submitted()['id']}"
    with ThreadPoolExecutor(60) as pool:
        waiting = [pool.submit(api.get, path, params={"wait": 50}) for _ in range(60)]
        time.sleep(0.5)
        assert api.get("/v1/experiments", params={"limit": 1}).status_code == 200
        assert not any(future.done() for future in waiting)
        api.client.post(f"{path}/cancel")
        assert {future.result().status_code for future in waiting} == {200}


def test_queued_runs_are_cancelled_at_once_and_only_once(api: Api):
    path = f"/v1/experiments/{api.submitted()['id']}"
    answer = api.client.post(f"{path}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    again = api.client.post(f"{path}/cancel")
    problem = again.json()
    assert (again.status_code, problem["code"], problem["current"]) == (409, "already_finished", "cancelled")
    assert problem["allowed"] == ["queued", "running", "paused", "cancelling"]


def test_a_running_experiment_is_cancelling_until_its_worker_stops(api: Api):
    api.finish_all()
    experiment = api.submitted()
    claim = api.claim()
    answer = api.client.post(f"/v1/experiments/{experiment['id']}/cancel").json()
    assert answer["status"] == "cancelling"
    assert answer["runs"]["cancelling"] == len(claim.runs)
    assert answer["runs"]["cancelled"] == 8 - len(claim.runs)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/experiments/{}"),
        ("GET", "/v1/experiments/{}/runs"),
        ("GET", "/v1/experiments/{}/comparison"),
        ("GET", "/v1/experiments/{}/manifest"),
        ("GET", "/v1/experiments/{}/results.csv"),
        ("GET", "/v1/experiments/{}/events"),
        ("GET", "/v1/experiments/{}/charts/comparison.svg"),
        ("POST", "/v1/experiments/{}/cancel"),
        ("GET", "/v1/runs/{}"),
        ("GET", "/v1/runs/{}/measurements"),
        ("POST", "/v1/runs/{}/cancel"),
    ],
)
def test_what_is_not_there_is_404(api: Api, method: str, path: str):
    for name in (str(unknown_id()), "no-id", "..%2f..%2fetc"):
        answer = api.client.request(method, path.format(name))
        assert answer.status_code == 404, name
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_manifest_names_code_cells_and_results(api: Api, finished: dict):
    manifest = api.get(finished["links"]["manifest"]).json()
    assert manifest["spec"] == finished["spec"]
    assert manifest["spec_hash"] == finished["spec_hash"]
    assert manifest["code_version"]
    assert len(manifest["runs"]) == len(manifest["results"]) == 8
    assert {len(value) for value in manifest["runs"].values()} == {64}
