import copy
import json

import httpx
import pytest

from bfc_client.errors import InvalidSpec
from bfc_client.spec_check import checked_spec
from bfc_core.specs import ExperimentSpec

GOOD = {
    "name": "x",
    "target": {"kind": "hierarchical_quadratic", "widths": [3, 2], "alphas": [1, 0.1]},
    "learners": [{"kind": "algorithm_1"}, {"kind": "kernel_ridge", "kernel": {"kind": "rbf"}}],
    "n": [64],
    "dim": 6,
}


def without(name):
    return lambda spec: spec.pop(name)


def setting(*path_and_value):
    *path, last, value = path_and_value

    def change(spec):
        for part in path:
            spec = spec[part]
        spec[last] = value

    return change


FAULTS = [
    (without("target"), {"#/target"}),
    (setting("target", "alphas", 1, float("nan")), {"#/target/alphas/1"}),
    (setting("target", "widths", [3]), {"#/target"}),
    (setting("target", "kind", "nope"), {"#/target/kind"}),
    (setting("learners", 0, {"kind": "nope"}), {"#/learners/0/kind"}),
    (setting("learners", 0, {}), {"#/learners/0/kind"}),
    (setting("learners", 0, "algorithm_1"), {"#/learners/0"}),
    (setting("learners", 0, "width", -1), {"#/learners/0/width"}),
    (setting("learners", 0, "a/b~c", 1), {"#/learners/0/a~1b~0c"}),
    (setting("learners", 1, "kernel", "bandwidths", [-1]), {"#/learners/1/kernel/bandwidths/0"}),
    (setting("learners", 1, "kernel", {"kind": "polynomial", "degree": 0}), {"#/learners/1/kernel/degree"}),
    (setting("learners", []), {"#/learners"}),
    (setting("n", [64, -4]), {"#/n/1"}),
    (setting("n", 10**9), {"#/n"}),
    (setting("n", "many"), {"#/n"}),
    (setting("dim", 2), {"#"}),
    (setting("seeds", 0), {"#/seeds"}),
    (setting("unknown", 1), {"#/unknown"}),
    (setting("budget", {"steps_per_stage": 0}), {"#/budget/steps_per_stage"}),
]


@pytest.mark.parametrize(("change", "pointers"), FAULTS)
def test_a_fault_is_found_where_it_stands(change, pointers):
    document = copy.deepcopy(GOOD)
    change(document)
    with pytest.raises(InvalidSpec) as caught:
        checked_spec(document, ExperimentSpec)
    assert sorted(error.pointer for error in caught.value.errors) == sorted(pointers)
    assert all(error.detail and error.code for error in caught.value.errors)


def test_the_server_names_the_same_places(api):
    with httpx.Client(base_url=api, trust_env=False) as http:
        for change, pointers in FAULTS:
            document = copy.deepcopy(GOOD)
            change(document)
            content = json.dumps(document).replace("NaN", "1e999")
            answer = http.post(
                "/v1/experiments", content=content, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code == 422, (document, answer.text)
            assert {error["pointer"] for error in answer.json()["errors"]} >= pointers, document
        assert http.get("/v1/experiments").json()["items"] == []


@pytest.mark.parametrize("document", [None, [], "spec", 3])
def test_what_is_no_mapping_is_refused(document):
    with pytest.raises(InvalidSpec) as caught:
        checked_spec(document, ExperimentSpec)
    assert caught.value.errors[0].pointer == "#"


def test_a_good_document_is_a_spec():
    assert checked_spec(GOOD, ExperimentSpec).n == (64,)
    assert checked_spec(ExperimentSpec.model_validate(GOOD), ExperimentSpec).dim == (6,)
