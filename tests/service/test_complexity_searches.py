"""A search for n* over HTTP: rounds follow from results, it ends with an answer, and nothing is run twice."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select

from bfc_core.specs import Metrics, Outcome, Report, RunSpec
from service.complexity_searches.progress import advance
from service.database import database_now
from service.jobs import Publisher
from service.models import ApiKey, ComplexitySearch
from tests.service.conftest import SMALL, Api, serve, settings_for, unknown_id
from tests.service.test_problems import is_problem
from tests.service.test_security import key_of

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


def test_parallel_posts_with_one_key_are_one_search(api: Api) -> None:
    before = api.count("complexity_searches"), api.count("experiments")
    barrier = threading.Barrier(20)

    def post(_: int) -> httpx.Response:
        barrier.wait()
        return api.client.post(
            "/v1/complexity", json=SEARCH | {"name": "keyed"}, headers={"Idempotency-Key": "n*"}
        )

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(post, range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert all(answer.json() == answers[0].json() for answer in answers)
    assert len({answer.headers["Location"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    # Four learner and dim pairs, an experiment each.
    assert (api.count("complexity_searches"), api.count("experiments")) == (before[0] + 1, before[1] + 4)


def test_a_key_belongs_to_one_body_of_one_kind(api: Api) -> None:
    posted(api)
    for key, path, body in (
        ("a search's", "/v1/complexity", SEARCH | {"eps": 0.2}),
        ("a search's", "/v1/experiments", SMALL),
        ("an experiment's", "/v1/complexity", SEARCH),
    ):
        first = ("/v1/complexity", SEARCH) if key == "a search's" else ("/v1/experiments", SMALL)
        headers = {"Idempotency-Key": key}
        assert api.client.post(first[0], json=first[1], headers=headers).status_code == 202
        answer = api.client.post(path, json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


def test_a_search_ends_with_n_star_of_every_learner_and_dim_and_says_what_it_saved(api: Api) -> None:
    api.finish_all(learned)
    search = posted(api)
    assert (search["status"], search["rounds"], search["runs"]) == ("running", 1, 4)
    done = followed(api, search)
    assert done["status"] == "succeeded"
    cells = {(cell["learner"]["kind"], cell["dim"]): cell for cell in done["cells"]}
    assert len(cells) == 4
    for dim in (6, 8):
        assert cells["joint", dim]["first"]["value"] == pytest.approx(10 * dim)
        assert cells["kernel_ridge", dim]["first"]["text"] == "> 1024"
    assert done["full_grid_runs"] == 4 * len(GRID) * 4
    assert done["runs"] <= done["full_grid_runs"] / 2
    assert done["seconds"] == done["runs"]
    assert done["rounds"] > 1
    again = followed(api, posted(api))
    # Everything is known: no run of its own, the same answer.
    assert again["cells"] == done["cells"]
    experiments = [api.get(f"/v1/experiments/{one}").json() for one in again["experiments"]]
    assert all(one["reused_runs"] == one["runs"]["total"] for one in experiments)


def test_a_search_may_save_more_runs_than_an_experiment_may_have(api: Api) -> None:
    # 2 learners, 20 dims, 136 sizes, 20 seeds: as one experiment it would be refused.
    asked = {"dim": list(range(20, 40)), "n_min": 8, "n_max": 10**6, "points_per_doubling": 8, "seeds": 20}
    search = posted(api, learners=[{"kind": "joint"}, {"kind": "algorithm_1"}], **asked)
    assert (search["runs"], search["full_grid_runs"]) == (2 * 20 * 5, 2 * 20 * 136 * 20)
    assert search["id"] in [one["id"] for one in api.get("/v1/complexity").json()["items"]]
    api.client.post(f"/v1/complexity/{search['id']}/cancel")


def test_the_matched_control_beside_layerwise_is_not_taken_for_it(api: Api) -> None:
    def report_of(run: RunSpec) -> Report:
        nmse = 1.0 if run.learner.kind == "matched_compute_control" else 0.1 * 100 / run.n
        return Report(outcome=Outcome.SUCCEEDED, metrics=Metrics(nmse=nmse), seconds=1)

    done = followed(api, posted(api, learners=[{"kind": "layerwise"}], dim=7), report_of)
    assert [cell["learner"]["kind"] for cell in done["cells"]] == ["layerwise"]
    assert done["cells"][0]["first"]["value"] == pytest.approx(100)


def test_classification_can_be_searched_by_its_error(api: Api) -> None:
    def report_of(run: RunSpec) -> Report:
        return Report(outcome=Outcome.SUCCEEDED, metrics=Metrics(nmse=1, error=0.1 * 100 / run.n), seconds=1)

    target = SEARCH["target"] | {"task": "classification"}
    done = followed(api, posted(api, target=target, metric="error", dim=6), report_of)
    assert [cell["first"]["value"] for cell in done["cells"]] == pytest.approx([100, 100])


def test_a_spent_budget_of_runs_ends_it_and_says_so(api: Api) -> None:
    done = followed(api, posted(api, dim=9, max_runs=8))
    assert done["status"] == "succeeded"
    assert "max_runs = 8" in done["message"]
    assert 0 < done["runs"] <= 8


def test_seeds_are_added_until_the_interval_is_narrow_or_they_are_spent(api: Api) -> None:
    def noisy(run: RunSpec) -> Report:
        nmse = 0.1 * (100 / run.n) ** 2 * (1 + 0.5 * (run.seed % 3))
        return Report(outcome=Outcome.SUCCEEDED, metrics=Metrics(nmse=nmse), seconds=1)

    asked = {"learners": [KERNEL], "seeds": 3, "max_seeds": 12}
    wide = followed(api, posted(api, dim=13, widest_interval=20, **asked), noisy)
    # With three seeds the share 1 − δ = 0.8 is all of them: their interval is not believed, however narrow it is.
    assert (wide["message"], wide["full_grid_runs"]) == (None, len(GRID) * 6)
    spent = followed(api, posted(api, dim=14, widest_interval=1e-9, **asked), noisy)
    assert spent["status"] == "succeeded"
    assert spent["message"] == (
        "max_seeds = 12 are spent and the interval of n* is still wider than 1e-09 doublings: "
        "kernel_ridge polynomial degree 4 at dim 14"
    )
    assert spent["full_grid_runs"] == len(GRID) * 12, "with as many seeds as were used"
    assert spent["runs"] < spent["full_grid_runs"]


def test_an_answer_beyond_the_grid_needs_no_further_seeds(api: Api) -> None:
    """No number of them closes an interval that is open because nothing larger, or smaller, was to be run."""

    def never(_: RunSpec) -> Report:
        return Report(outcome=Outcome.SUCCEEDED, metrics=Metrics(nmse=0.9), seconds=1)

    def at_once(_: RunSpec) -> Report:
        return Report(outcome=Outcome.SUCCEEDED, metrics=Metrics(nmse=0.01), seconds=1)

    asked = {"learners": [KERNEL], "seeds": 5, "max_seeds": 40, "widest_interval": 0.5}
    for dim, report_of, censored in ((21, never, "above"), (22, at_once, "below")):
        found = followed(api, posted(api, dim=dim, **asked), report_of)
        assert (found["status"], found["message"]) == ("succeeded", None)
        assert found["full_grid_runs"] == len(GRID) * 5
        assert found["cells"][0]["first"]["censored"] == censored


def test_runs_that_a_round_asks_for_again_are_spent_once(api: Api) -> None:
    """A round that adds seeds names those that have run: with as many runs as all of it takes, it ends there."""

    def noisy(run: RunSpec) -> Report:
        nmse = 0.1 * (100 / run.n) ** 2 * (1 + 0.5 * (run.seed % 3))
        return Report(outcome=Outcome.SUCCEEDED, metrics=Metrics(nmse=nmse), seconds=1)

    asked = {"learners": [KERNEL], "seeds": 5, "max_seeds": 20, "widest_interval": 1e-9}
    free = followed(api, posted(api, dim=23, **asked), noisy)
    assert "max_seeds" in free["message"]
    bound = followed(api, posted(api, dim=24, max_runs=free["runs"], **asked), noisy)
    assert (bound["runs"], bound["message"]) == (free["runs"], free["message"].replace("dim 23", "dim 24"))
    less = followed(api, posted(api, dim=25, max_runs=free["runs"] - 1, **asked), noisy)
    assert less["runs"] < free["runs"]
    assert "max_runs" in less["message"]


def test_a_search_that_does_not_fit_any_more_fails_and_keeps_no_other_from_going_on(api: Api) -> None:
    kernel = posted(api, dim=40, learners=[KERNEL], n_max=2**14)
    joint = posted(api, dim=40, learners=[{"kind": "joint"}])
    api.finish_all(learned)
    smaller = api.settings.model_copy(update={"pack_memory_limit_bytes": 2**27})
    advance(api.database, Publisher(smaller), smaller)
    refused = api.get(f"/v1/complexity/{kernel['id']}").json()
    assert refused["status"] == "failed"
    assert refused["message"].startswith("round 2 does not fit this deployment any more: kernel_ridge")
    assert refused["finished_at"] is not None
    assert api.get(f"/v1/complexity/{joint['id']}").json()["rounds"] == 2
    assert followed(api, joint)["status"] == "succeeded"


def test_a_search_that_cannot_be_read_keeps_no_other_from_going_on(api: Api) -> None:
    damaged, sound = posted(api, dim=41), posted(api, dim=42)
    api.finish_all(learned)
    with api.database.writing() as session:
        row = session.get_one(ComplexitySearch, UUID(damaged["id"]))
        spec, row.spec = row.spec, {}
    advance(api.database, Publisher(api.settings), api.settings)
    with api.database.writing() as session:
        session.get_one(ComplexitySearch, UUID(damaged["id"])).spec = spec
    rounds = [api.get(f"/v1/complexity/{one['id']}").json()["rounds"] for one in (damaged, sound)]
    assert rounds == [1, 2]
    assert followed(api, damaged)["status"] == followed(api, sound)["status"] == "succeeded"


def test_a_failed_run_fails_the_search(api: Api) -> None:
    done = followed(
        api, posted(api, dim=10), lambda _run: Report(outcome=Outcome.FAILED, seconds=1, message="x")
    )
    assert done["status"] == "failed"
    assert done["message"].startswith("2 runs ended without a result")


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
        ({"n_min": 1024}, "#/n_max"),
        ({"eps": -1}, "#/eps"),
        ({"learners": [{"kind": "magic"}]}, "#/learners/0/kind"),
        ({"learners": [KERNEL], "n_max": 900_000}, "#/learners/0"),
        ({"grid": 3}, "#/grid"),
        ({"max_runs": 15}, "#/max_runs"),
        ({"metric": "error"}, "#/metric"),
        (
            {
                "learners": [{"kind": "joint", "steps_per_stage": steps} for steps in (10, 20)],
                "budget": {"steps_per_stage": 30},
            },
            "#/learners/1",
        ),
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


# --- quotas ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server that asks for keys."""
    yield from serve(settings_for(database_url, tmp_path_factory.mktemp("guarded"), auth="keys"))


class Searcher:
    """A search of one learner and dim, asked for under a key."""

    def __init__(self, api: Api, owner: str, dim: int | list[int], **limits: object) -> None:
        self.api, self.owner, self.key = api, owner, key_of(api, owner, **limits)
        body = SEARCH | {"learners": [{"kind": "joint", "steps_per_stage": 10}], "dim": dim}
        self.answer = api.client.post("/v1/complexity", json=body, headers=self.key)

    def followed(self) -> dict:
        publisher = Publisher(self.api.settings)
        for _ in range(20):
            self.api.finish_all(learned)
            advance(self.api.database, publisher, self.api.settings)
            search = self.read()
            if search["status"] != "running":
                return search
        raise AssertionError("it does not end")

    def read(self) -> dict:
        path = f"/v1/complexity/{self.answer.json()['id']}"
        return self.api.get(path, headers=self.key).json()

    def resumed(self, headers: dict[str, str]):
        return self.api.client.post(f"/v1/complexity/{self.answer.json()['id']}/resume", headers=headers)

    def allow(self, **limits: object) -> None:
        with self.api.database.writing() as session:
            for key in session.scalars(select(ApiKey).where(ApiKey.owner == self.owner)).all():
                for name, value in limits.items():
                    setattr(key, name, value)


def test_a_round_that_a_quota_does_not_allow_pauses_the_search_and_it_goes_on_when_there_is_room(
    guarded: Api,
) -> None:
    # A round has a run of a second: two rounds fit.
    searcher = Searcher(guarded, "frugal", 13, daily_seconds_limit=2.0)
    assert searcher.answer.status_code == 202, searcher.answer.text
    paused = searcher.followed()
    assert (paused["status"], paused["finished_at"]) == ("paused", None)
    assert paused["message"].startswith(
        f"paused before round {paused['rounds'] + 1}: the quota daily_seconds"
    )
    experiments = guarded.count("experiments")
    problem = is_problem(searcher.resumed(searcher.key), 429)
    assert (problem["code"], guarded.count("experiments")) == ("quota_exceeded", experiments)
    assert searcher.read()["status"] == "paused"
    searcher.allow(daily_seconds_limit=1000.0)
    assert searcher.resumed(searcher.key).json()["status"] == "running"
    done = searcher.followed()
    assert (done["status"], done["message"]) == ("succeeded", None)
    assert done["rounds"] > paused["rounds"]
    assert is_problem(searcher.resumed(searcher.key), 409)["code"] == "not_in_this_state"


def test_the_first_round_is_refused_with_nothing_stored(guarded: Api) -> None:
    before = guarded.count("complexity_searches"), guarded.count("experiments")
    searcher = Searcher(guarded, "small", [17, 18, 19, 20], live_runs_limit=3)
    assert is_problem(searcher.answer, 429)["code"] == "quota_exceeded"
    assert (guarded.count("complexity_searches"), guarded.count("experiments")) == before


def test_a_revoked_key_asks_for_no_further_round(guarded: Api) -> None:
    searcher = Searcher(guarded, "gone", 15)
    with guarded.database.writing() as session:
        for key in session.scalars(select(ApiKey).where(ApiKey.owner == "gone")).all():
            key.revoked_at = database_now(session)
    searcher.key = key_of(guarded, "gone")
    paused = searcher.followed()
    assert paused["status"] == "paused"
    assert "revoked or expired" in paused["message"]
    assert is_problem(searcher.resumed(key_of(guarded, "somebody else")), 403)["code"] == "not_the_owner"
    assert searcher.resumed(searcher.key).status_code == 202
    assert searcher.followed()["status"] == "succeeded"


def test_a_paused_search_can_be_cancelled(guarded: Api) -> None:
    searcher = Searcher(guarded, "tired", 16, daily_seconds_limit=2.0)
    assert searcher.followed()["status"] == "paused"
    answer = guarded.client.post(
        f"/v1/complexity/{searcher.answer.json()['id']}/cancel", headers=searcher.key
    )
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
