"""Pausing, going on and trying again, over HTTP, with claims in the place of a worker."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import httpx
import pytest
from sqlalchemy.orm import Session

from bfc_core.specs import Outcome, Report, RunSpec
from service.models import Pack
from service.runs import claims, lifecycle
from service.runs.moves import Failure
from service.runs.resumption import retry_run
from tests.service.conftest import Api, report
from tests.service.test_problems import is_problem


def act(api: Api, experiment: dict, what: str):
    return api.client.post(f"{experiment['links']['self']}/{what}")


def status(api: Api, experiment: dict) -> str:
    return api.get(experiment["links"]["self"]).json()["status"]


@pytest.fixture(autouse=True)
def nothing_else_waits(api: Api) -> None:
    api.finish_all()


def test_a_paused_experiment_is_not_claimed_until_it_goes_on(api: Api):
    experiment = api.submitted()
    answer = act(api, experiment, "pause")
    assert (answer.status_code, answer.json()["status"]) == (202, "paused")
    assert api.claim() is None
    with api.database.reading() as session:
        assert not lifecycle.has_due_wakeups(session), "a held pack needs no wake-up"
    assert act(api, experiment, "resume").json()["status"] == "queued"
    api.finish_all()
    assert status(api, experiment) == "succeeded"


def test_what_runs_when_the_pause_comes_is_given_back_and_goes_on(api: Api):
    experiment = api.submitted()
    claim = api.claim()
    assert claim is not None
    assert act(api, experiment, "pause").json()["status"] == "running", "a checkpoint is still being saved"
    with api.database.reading() as session:
        assert claims.wishes(session, claim).is_held
    with api.database.writing() as session:
        lifecycle.release(session, claim)
    assert status(api, experiment) == "paused"
    act(api, experiment, "resume")
    assert status(api, experiment) == "running"
    api.finish_all()
    assert status(api, experiment) == "succeeded"


def test_a_crash_while_paused_keeps_the_hold_also_through_a_split(api: Api):
    experiment = api.submitted(learners=[{"kind": "joint"}])
    claim = api.claim()
    act(api, experiment, "pause")
    with api.database.writing() as session:
        lifecycle.crash(session, claim, Failure("child_died", "it died"), crash_limit=1)
    assert status(api, experiment) == "paused"
    assert api.claim() is None
    with api.database.reading() as session:
        packs = (
            session.query(Pack)
            .filter(Pack.experiment_id == claim.experiment_id, Pack.finished_at.is_(None))
            .all()
        )
        assert len(packs) == 2
        assert all(pack.held_at is not None for pack in packs)
    act(api, experiment, "resume")
    api.finish_all()
    assert status(api, experiment) == "succeeded"


def test_a_paused_experiment_can_be_cancelled(api: Api):
    experiment = api.submitted()
    act(api, experiment, "pause")
    assert act(api, experiment, "cancel").json()["status"] == "cancelled"
    assert is_problem(act(api, experiment, "resume"), 409)["current"] == "cancelled"


def test_actions_out_of_place_are_conflicts_that_name_the_places(api: Api):
    experiment = api.submitted()
    problem = is_problem(act(api, experiment, "resume"), 409)
    assert (problem["code"], problem["current"], problem["allowed"]) == (
        "not_in_this_state",
        "queued",
        ["paused"],
    )
    act(api, experiment, "pause")
    assert is_problem(act(api, experiment, "pause"), 409)["current"] == "paused"
    act(api, experiment, "resume")
    api.finish_all()
    assert is_problem(act(api, experiment, "pause"), 409)["current"] == "succeeded"
    run = api.get(f"{experiment['links']['runs']}").json()["items"][0]["id"]
    assert is_problem(api.client.post(f"/v1/runs/{run}/retry"), 409)["allowed"] == ["failed", "cancelled"]


def failing(run: RunSpec) -> Report:
    if run.seed == 1:
        return Report(outcome=Outcome.FAILED, metrics=None, seconds=0.1, steps=0, message="it broke")
    return report(run)


def test_a_failed_run_is_tried_again_and_its_experiment_ends_again(api: Api):
    experiment = api.submitted(learners=[{"kind": "joint"}])
    api.finish_all(failing)
    assert status(api, experiment) == "partially_succeeded"
    [failed] = api.get(experiment["links"]["runs"], params={"status": "failed"}).json()["items"]
    again = api.client.post(f"/v1/runs/{failed['id']}/retry")
    assert (again.status_code, again.json()["status"], again.json()["message"]) == (202, "queued", None)
    assert status(api, experiment) == "running"
    claim = api.claim()
    assert [str(run.id) for run in claim.runs] == [failed["id"]]
    api.finish(claim)
    assert status(api, experiment) == "succeeded"
    assert api.get(f"/v1/runs/{failed['id']}").json()["attempts"] == 2


def test_a_cancelled_run_is_tried_again(api: Api):
    experiment = api.submitted(learners=[{"kind": "joint"}])
    act(api, experiment, "cancel")
    for run in api.get(experiment["links"]["runs"]).json()["items"]:
        assert api.client.post(f"/v1/runs/{run['id']}/retry").status_code == 202
    api.finish_all()
    assert status(api, experiment) == "succeeded"


def test_trying_a_run_again_while_paused_keeps_the_pause_and_strands_nothing(api: Api):
    experiment = api.submitted(learners=[{"kind": "joint"}, {"kind": "layerwise"}], seeds=[71, 72])
    runs = api.get(experiment["links"]["runs"]).json()["items"]
    api.client.post(f"/v1/runs/{runs[0]['id']}/cancel")
    act(api, experiment, "pause")
    again = api.client.post(f"/v1/runs/{runs[0]['id']}/retry")
    assert (again.status_code, again.json()["status"]) == (202, "queued")
    assert status(api, experiment) == "paused"
    assert api.claim() is None
    assert act(api, experiment, "resume").status_code == 202
    api.finish_all()
    assert status(api, experiment) == "succeeded"


def test_a_higher_priority_runs_first(api: Api):
    low = api.submitted()
    high = api.post(params={"priority": 5, "force": True}).json()
    claim = api.claim()
    assert str(claim.experiment_id) == high["id"]
    api.finish(claim)
    api.finish_all()
    assert status(api, low) == "succeeded"
    is_problem(api.post(params={"priority": 101}), 422)


def beside(api: Api, first: Callable[[Session], object], act_then: Callable[[], httpx.Response]) -> None:
    """Do ``first`` in a transaction and send a request that waits for its rows before it is committed."""
    with ThreadPoolExecutor(1) as requests:
        with api.database.writing() as session:
            first(session)
            asked = requests.submit(act_then)
            time.sleep(0.5)
        answer = asked.result()
    assert answer.status_code == 202, answer.text


def test_a_pause_holds_what_a_split_at_the_same_moment_leaves(api: Api):
    experiment = api.submitted(learners=[{"kind": "joint"}], seeds=3)
    claim = api.claim()
    failure = Failure("child_died", "it died")
    beside(
        api,
        lambda session: lifecycle.crash(session, claim, failure, crash_limit=1),
        lambda: act(api, experiment, "pause"),
    )
    assert (status(api, experiment), api.claim()) == ("paused", None)
    act(api, experiment, "resume")
    api.finish_all()
    assert status(api, experiment) == "succeeded"


def test_a_resume_lets_go_what_a_split_at_the_same_moment_leaves(api: Api):
    experiment = api.submitted(learners=[{"kind": "joint"}], seeds=3)
    claim = api.claim()
    act(api, experiment, "pause")
    failure = Failure("child_died", "it died")
    beside(
        api,
        lambda session: lifecycle.crash(session, claim, failure, crash_limit=1),
        lambda: act(api, experiment, "resume"),
    )
    api.finish_all()
    assert status(api, experiment) == "succeeded"


def test_a_pause_holds_a_run_that_is_tried_again_at_the_same_moment(api: Api):
    experiment = api.submitted(learners=[{"kind": "joint"}], seeds=3)
    cancelled = api.get(experiment["links"]["runs"]).json()["items"][0]
    assert api.client.post(f"/v1/runs/{cancelled['id']}/cancel").status_code == 202
    beside(
        api,
        lambda session: retry_run(session, UUID(cancelled["id"])),
        lambda: act(api, experiment, "pause"),
    )
    assert (status(api, experiment), api.claim()) == ("paused", None)
    act(api, experiment, "resume")
    api.finish_all()
    assert status(api, experiment) == "succeeded"
