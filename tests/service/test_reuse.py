"""What an earlier experiment has answered is linked, not run again, and said."""

from uuid import UUID

import httpx
from sqlalchemy import select

from bfc_core.specs import Outcome, Report
from service.models import Experiment, Run
from service.runs.reuse import answered_cells
from tests.service.conftest import SMALL, Api, report

RBF = {"kind": "kernel_ridge", "kernel": {"kind": "rbf"}}


def post(api: Api, spec: dict, **params: object) -> httpx.Response:
    answer = api.client.post("/v1/experiments", json=spec, params=params)
    assert answer.is_success, answer.text
    return answer


def of(name: str, **changes: object) -> dict:
    """A spec of its own: the seeds tell the tests of one database apart."""
    seeds = [1000 * (sum(map(ord, name)) % 1000) + k for k in range(2)]
    return SMALL | {"name": name, "seeds": seeds, "learners": [RBF]} | changes


def test_the_same_experiment_is_answered_at_once(api: Api) -> None:
    spec = of("again")
    first = post(api, spec).json()
    api.finish_all()
    plan = post(api, spec, dry_run=True).json()
    assert (plan["cells"], plan["reused_cells"], plan["packs"], plan["estimated_seconds"]) == (2, 2, 0, 0)
    assert plan["saved_seconds"] == 3.0
    again = post(api, spec).json()
    assert again["id"] != first["id"]
    assert (again["status"], again["progress"]) == ("succeeded", 1.0)
    assert (again["reused_runs"], again["saved_seconds"]) == (2, 3.0)
    assert again["finished_at"] is not None
    found, expected = (
        api.get(f"/v1/experiments/{experiment['id']}/comparison").json()["cells"]
        for experiment in (again, first)
    )
    assert found == expected
    events = api.get(f"/v1/experiments/{again['id']}/events").json()["items"]
    assert events[-1]["payload"]["status"] == "succeeded"


def test_an_extended_axis_runs_only_what_is_new(api: Api) -> None:
    spec = of("extended")
    post(api, spec)
    api.finish_all()
    wider = post(api, spec | {"n": [64, 96]}).json()
    assert (wider["runs"]["total"], wider["reused_runs"]) == (4, 2)
    assert wider["runs"]["queued"] == 2
    claim = api.claim()
    assert {run.spec.n for run in claim.runs} == {96}
    api.finish(claim)
    runs = api.get(f"/v1/experiments/{wider['id']}/runs").json()["items"]
    # The order of the grid, whoever computed a cell.
    assert [(run["n"], run["seed"]) for run in runs] == [
        (n, seed) for n in (64, 96) for seed in spec["seeds"]
    ]
    assert {run["status"] for run in runs} == {"succeeded"}
    assert api.get(f"/v1/experiments/{wider['id']}").json()["status"] == "succeeded"


def test_what_changes_no_number_keeps_no_answer_from_being_reused(api: Api) -> None:
    """How long a pack may take, and the steps a stage, which the learner has whoever named them; not the test rows."""
    learner = {"kind": "joint", "steps_per_stage": 20}
    spec = of("alike", learners=[learner], budget={"test_samples": 64})
    post(api, spec)
    api.finish_all()
    for budget, reused in (
        ({"test_samples": 64, "seconds": 1000}, 2),
        ({"test_samples": 64, "steps_per_stage": 20}, 2),
        ({"test_samples": 64, "steps_per_stage": 21}, 0),
        ({"test_samples": 65}, 0),
        ({"test_samples": 64, "keep_predictor": True}, 0),
    ):
        plan = post(api, spec | {"budget": budget}, dry_run=True).json()
        assert plan["reused_cells"] == reused, budget


def test_force_computes_anew(api: Api) -> None:
    spec = of("forced")
    post(api, spec)
    api.finish_all()
    assert post(api, spec, dry_run=True, force=True).json()["reused_cells"] == 0
    anew = post(api, spec, force=True).json()
    assert (anew["reused_runs"], anew["runs"]["queued"]) == (0, 2)
    api.finish_all()


def test_a_key_stands_for_one_way_of_asking(api: Api) -> None:
    headers = {"Idempotency-Key": "reuse"}
    spec = of("key")
    assert api.client.post("/v1/experiments", json=spec, headers=headers).status_code == 202
    other = api.client.post("/v1/experiments", json=spec, headers=headers, params={"force": True})
    assert other.json()["code"] == "idempotency_key_reused"
    api.finish_all()


def test_a_failure_is_tried_again_and_a_divergence_is_not(api: Api) -> None:
    spec = of("ended otherwise")
    post(api, spec)
    ends = iter([Outcome.FAILED, Outcome.DIVERGED])
    api.finish_all(lambda _run: Report(outcome=next(ends), seconds=0.5, message="as it may happen"))
    again = post(api, spec).json()
    assert (again["reused_runs"], again["runs"]["diverged"], again["runs"]["queued"]) == (1, 1, 1)
    api.finish_all(report)


def test_cancelling_leaves_what_was_reused(api: Api) -> None:
    spec = of("cancelled")
    post(api, spec)
    api.finish_all()
    wider = post(api, spec | {"n": [64, 96]}).json()
    answer = api.client.post(f"/v1/experiments/{wider['id']}/cancel").json()
    assert answer["status"] == "cancelled"
    assert (answer["runs"]["succeeded"], answer["runs"]["cancelled"]) == (2, 2)


def test_controls_that_the_budget_makes_equal_are_run_once_and_found_again(api: Api) -> None:
    learners = [
        {"kind": "layerwise", "steps_per_stage": 10},
        {"kind": "correction_window", "window": 1, "steps_per_stage": 20},
    ]
    spec = of("equal controls", learners=learners, budget={"steps_per_stage": 30, "test_samples": 64})
    first = post(api, spec).json()
    kinds = [run["learner"]["kind"] for run in api.get(first["links"]["runs"]).json()["items"]]
    assert kinds.count("matched_compute_control") == len(spec["seeds"])
    api.finish_all()
    again = post(api, spec).json()
    assert (again["status"], again["reused_runs"]) == ("succeeded", first["runs"]["total"])


def test_a_number_answers_for_the_code_that_computed_it_not_for_the_code_that_accepted_it(api: Api) -> None:
    """In the middle of an upgrade one version accepts what workers of another compute."""
    spec = of("skew")
    first = post(api, spec).json()
    with api.database.writing() as session:
        session.get_one(Experiment, UUID(first["id"])).code_version = "0+of another version"
        for run in session.scalars(select(Run).where(Run.experiment_id == UUID(first["id"]))):
            run.cell_hash = f"{run.seed:064d}"
    api.finish_all()
    again = post(api, spec).json()
    assert (again["status"], again["reused_runs"]) == ("succeeded", 2)
    with api.database.reading() as session:
        theirs = [f"{seed:064d}" for seed in spec["seeds"]]
        assert answered_cells(session, theirs) == {}
