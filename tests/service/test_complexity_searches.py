"""A search for n* over HTTP: rounds follow from results, it ends with an answer, and nothing is run twice."""

import pytest

from bfc_core.specs import Metrics, Outcome, Report, RunSpec
from service.complexity_searches.progress import advance
from service.jobs import Publisher
from tests.service.conftest import Api, unknown_id

KERNEL = {"kind": "kernel_ridge", "kernel": {"kind": "polynomial", "degree": 4}}
SEARCH = {
    "name": "n*",
    "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
    "learners": [{"kind": "joint"}, KERNEL],
    "dim": [6, 8],
    "n_min": 32,
    "n_max": 1024,
    "seeds": 4,
    "budget": {"test_samples": 64},
}
GRID = (32, 64, 128, 256, 512, 1024)


def learned(run: RunSpec) -> Report:
    """joint needs 10 dim samples, the kernel 1000 dim: beyond the grid."""
    star = (10 if run.learner.kind == "joint" else 1000) * run.dim
    return Report(outcome=Outcome.SUCCEEDED, metrics=Metrics(nmse=0.1 * (star / run.n) ** 2), seconds=1)


def posted(api: Api, **changes: object) -> dict:
    answer = api.client.post("/v1/complexity", json=SEARCH | changes)
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/v1/complexity/{answer.json()['id']}"
    return answer.json()


def followed(api: Api, search: dict, report_of=learned) -> dict:
    """Play the workers and the reconciler until the search has ended."""
    publisher = Publisher(api.settings)
    for _ in range(20):
        api.finish_all(report_of)
        advance(api.database, publisher, api.settings)
        search = api.get(f"/v1/complexity/{search['id']}").json()
        if search["status"] != "running":
            return search
    raise AssertionError("it does not end")


def test_a_search_ends_with_n_star_of_every_learner_and_dim_and_says_what_it_saved(api: Api) -> None:
    api.finish_all(learned)
    search = posted(api)
    assert (search["status"], search["rounds"], search["runs"]) == ("running", 1, 16)
    done = followed(api, search)
    assert done["status"] == "succeeded"
    cells = {(cell["learner"]["kind"], cell["dim"]): cell for cell in done["cells"]}
    assert len(cells) == 4
    for dim in (6, 8):
        assert cells["joint", dim]["first"]["value"] == pytest.approx(10 * dim)
        assert cells["kernel_ridge", dim]["first"]["text"] == "> 1024"
    assert done["full_grid_runs"] == 4 * len(GRID) * 4
    assert done["runs"] <= done["full_grid_runs"] * 2 / 3
    assert done["seconds"] == done["runs"]
    assert done["rounds"] > 1
    again = followed(api, posted(api))
    # Everything is known: no run of its own, the same answer.
    assert again["cells"] == done["cells"]
    experiments = [api.get(f"/v1/experiments/{one}").json() for one in again["experiments"]]
    assert all(one["reused_runs"] == one["runs"]["total"] for one in experiments)


def test_the_matched_control_beside_layerwise_is_not_taken_for_it(api: Api) -> None:
    def report_of(run: RunSpec) -> Report:
        nmse = 1.0 if run.learner.kind == "matched_compute_control" else 0.1 * 100 / run.n
        return Report(outcome=Outcome.SUCCEEDED, metrics=Metrics(nmse=nmse), seconds=1)

    done = followed(api, posted(api, learners=[{"kind": "layerwise"}], dim=7), report_of)
    assert [cell["learner"]["kind"] for cell in done["cells"]] == ["layerwise"]
    assert done["cells"][0]["first"]["value"] == pytest.approx(100)


def test_a_spent_budget_of_runs_ends_it_and_says_so(api: Api) -> None:
    done = followed(api, posted(api, dim=9, max_runs=8))
    assert done["status"] == "succeeded"
    assert "max_runs = 8" in done["message"]
    assert done["runs"] == 8


def test_a_failed_run_fails_the_search(api: Api) -> None:
    done = followed(
        api, posted(api, dim=10), lambda _run: Report(outcome=Outcome.FAILED, seconds=1, message="x")
    )
    assert done["status"] == "failed"
    assert done["message"].startswith("8 runs ended without a result")


def test_a_cancelled_search_leaves_nothing_at_work(api: Api) -> None:
    search = posted(api, dim=11)
    answer = api.client.post(f"/v1/complexity/{search['id']}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert api.claim() is None
    again = api.client.post(f"/v1/complexity/{search['id']}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "already_finished")


def test_searches_are_listed_newest_first(api: Api) -> None:
    ids = [posted(api, dim=12, name=name)["id"] for name in ("first", "second")]
    page = api.get("/v1/complexity", params={"limit": 1}).json()
    assert page["items"][0]["id"] == ids[1]
    older = api.get("/v1/complexity", params={"limit": 1, "cursor": page["next_cursor"]}).json()
    assert older["items"][0]["id"] == ids[0]
    for one in ids:
        api.client.post(f"/v1/complexity/{one}/cancel")


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"n_min": 1024}, "#"),
        ({"eps": -1}, "#/eps"),
        ({"learners": [{"kind": "magic"}]}, "#/learners/0/kind"),
        ({"learners": [KERNEL], "n_max": 900_000}, "#/learners/0"),
        ({"grid": 3}, "#/grid"),
    ],
)
def test_what_cannot_be_searched_is_refused_and_not_stored(api: Api, changes: dict, pointer: str) -> None:
    before = api.count("complexity_searches"), api.count("experiments")
    answer = api.client.post("/v1/complexity", json=SEARCH | changes)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert (api.count("complexity_searches"), api.count("experiments")) == before


def test_an_unknown_search_is_404(api: Api) -> None:
    assert api.get(f"/v1/complexity/{unknown_id()}").json()["code"] == "complexity_search_not_found"
    assert api.client.post(f"/v1/complexity/{unknown_id()}/cancel").status_code == 404
