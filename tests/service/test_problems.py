"""Every refusal is problem+json, points at the place that is wrong, and stores nothing."""

import base64
import json

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.service.conftest import SMALL, Api

JSON = {"Content-Type": "application/json"}


def is_problem(answer: httpx.Response, status: int) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert set(problem) >= {"type", "title", "status", "detail", "instance", "code", "request_id", "errors"}
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    assert "Traceback" not in answer.text
    assert ".py" not in answer.text
    return problem


IMAGES = {
    "target": {"kind": "images"},
    "inputs": {"kind": "data_set"},
    "learners": [{"kind": "linear"}],
    "n": 50,
    "dim": 64,
}


def pointers(answer: httpx.Response) -> list[str]:
    return [error["pointer"] for error in is_problem(answer, 422)["errors"]]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"n": "many"}, "#/n"),
        ({"n": [64, -1]}, "#/n/1"),
        ({"n": 10**30}, "#/n"),
        ({"dim": 0}, "#/dim"),
        ({"dim": 1}, "#"),
        ({"seeds": 5000}, "#/seeds"),
        ({"name": ""}, "#/name"),
        ({"name": "a\x00b"}, "#/name"),
        ({"name": "\ud800"}, "#/name"),
        ({"surprise": 1}, "#/surprise"),
        ({"target": {"kind": "unheard_of"}}, "#/target/kind"),
        ({"target": {"widths": [2]}}, "#/target/kind"),
        ({"target": SMALL["target"] | {"alphas": [1, "x"]}}, "#/target/alphas/1"),
        ({"target": SMALL["target"] | {"alphas": [1, 0.1, 0.01]}}, "#/target"),
        ({"target": SMALL["target"] | {"extra/field~": 1}}, "#/target/extra~1field~0"),
        ({"learners": []}, "#/learners"),
        ({"learners": [{"kind": "algorithm_1", "width": -4}]}, "#/learners/0/width"),
        ({"learners": [{"kind": "algorithm_1", "algorithm_1": 1}]}, "#/learners/0/algorithm_1"),
        ({"learners": [{"kind": "kernel_ridge"}]}, "#/learners/0/kernel"),
        (
            {"learners": [{"kind": "kernel_ridge", "kernel": {"kind": "rbf", "bandwidths": [0]}}]},
            "#/learners/0/kernel/bandwidths/0",
        ),
        (
            {"learners": [{"kind": "kernel_ridge", "kernel": {"kind": "polynomial", "degree": 99}}]},
            "#/learners/0/kernel/degree",
        ),
        ({"learners": [SMALL["learners"][0], SMALL["learners"][0]]}, "#"),
        ({"n": list(range(8, 208)), "dim": list(range(2, 102)), "seeds": 100}, "#"),
        ({"budget": {"seconds": -1}}, "#/budget/seconds"),
        ({"target": SMALL["target"] | {"connections": {"2": [1], "3": [7]}}}, "#/target"),
        ({"target": SMALL["target"] | {"connections": {"2": ["x"]}}}, "#/target/connections/2/0"),
        ({"learners": [{"kind": "kernel_ridge", "kernel": {"kind": "myrtle", "image": [4, 4, 1]}}]}, "#/dim"),
        (
            {"learners": [{"kind": "kernel_ridge", "kernel": {"kind": "myrtle", "image": [4, 6, 1]}}]},
            "#/learners/0/kernel",
        ),
        (IMAGES | {"dim": 63}, "#/dim"),
        (IMAGES | {"n": [100, 2000]}, "#/n"),
        (IMAGES | {"inputs": {"kind": "gaussian"}}, "#"),
    ],
)
def test_a_pointer_leads_to_what_is_wrong(api: Api, changes: dict, pointer: str):
    before = api.count("experiments")
    answer = api.post(content=json.dumps(SMALL | changes), headers=JSON)
    assert pointers(answer) == [pointer]
    assert api.count("experiments") == before


def test_a_missing_field_is_pointed_at(api: Api):
    assert pointers(api.post({name: value for name, value in SMALL.items() if name != "dim"})) == ["#/dim"]
    assert set(pointers(api.post({}))) == {"#/name", "#/target", "#/learners", "#/n", "#/dim"}
    for body in ([], 3, "text", None):
        assert pointers(api.post(content=json.dumps(body), headers=JSON)) == ["#"]


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("place", ["alpha", "name", "n", "unknown"])
def test_numbers_that_are_none_are_refused(api: Api, token: str, place: str):
    body = {
        "alpha": SMALL | {"target": SMALL["target"] | {"alphas": [1, "@"]}},
        "name": SMALL | {"name": "@"},
        "n": SMALL | {"n": ["@"]},
        "unknown": SMALL | {"unknown": {"deep": ["@"]}},
    }[place]
    answer = api.post(content=json.dumps(body).replace('"@"', token), headers=JSON)
    assert answer.status_code in {400, 422}
    is_problem(answer, answer.status_code)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"name": "\xff"}',
        b"[" * 500_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"n": ' + b"9" * 10_000 + b"}",
        b'{"name": "' + b"\\" * 1001 + b'"}',
        b"\x00",
    ],
    ids=[
        "empty",
        "torn",
        "utf-16 mark",
        "bad utf-8",
        "deep lists",
        "deep objects",
        "huge int",
        "escapes",
        "nul",
    ],
)
def test_what_is_no_json_is_refused(api: Api, body: bytes):
    answer = api.post(content=body, headers=JSON)
    assert answer.status_code in {400, 422}
    is_problem(answer, answer.status_code)


def test_a_body_over_one_mebibyte_is_413(api: Api):
    is_problem(api.post(content=b" " * (2**20 + 1), headers=JSON), 413)

    def chunks():
        for _ in range(40):
            yield b" " * 2**15

    is_problem(api.post(content=chunks(), headers=JSON), 413)
    large = json.dumps(SMALL | {"name": "x"}) + " " * (2**20 - 2000)
    assert api.post(content=large, headers=JSON).status_code == 202


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml"])
def test_another_media_type_is_415(api: Api, media_type: str):
    body = json.dumps(SMALL)
    is_problem(api.post(content=body, headers={"Content-Type": media_type}), 415)


def test_a_method_that_is_not_there_is_405_and_names_those_that_are(api: Api):
    answer = api.client.delete("/v1/experiments")
    is_problem(answer, 405)
    assert {method.strip() for method in answer.headers["Allow"].split(",")} == {"GET", "POST"}
    is_problem(api.client.put("/healthz"), 405)


def test_a_path_that_is_not_there_is_404(api: Api):
    for path in ("/nothing", "/v1", "/v1/experiments/x/y/z", "/static/%2e%2e/app.css", "/static/nothing.js"):
        is_problem(api.get(path), 404)


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("/v1/experiments?limit=0", "limit"),
        ("/v1/experiments?limit=1e9", "limit"),
        ("/v1/experiments?status=sideways", "status"),
        ("/v1/experiments?cursor=%00", "cursor"),
        ("/v1/experiments?cursor=WzFd", "cursor"),
        ("/v1/experiments?cursor=////", "cursor"),
        ("/v1/experiments?colour=red", "colour"),
    ],
)
def test_parameters_are_checked(api: Api, path: str, parameter: str):
    assert pointers(api.get(path)) == [f"#/query/{parameter}"]


def test_the_document_gives_an_id_to_every_request(api: Api):
    ids = {api.get("/healthz").headers["X-Request-Id"] for _ in range(5)}
    assert len(ids) == 5


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
places = st.sampled_from(
    [
        ("name",), ("target",), ("target", "kind"), ("target", "widths"), ("target", "alphas"),
        ("target", "connections"), ("inputs",), ("learners",), ("learners", 0), ("learners", 2, "kernel"),
        ("learners", 0, "width"), ("n",), ("n", 0), ("dim",), ("seeds",), ("alphas",), ("budget",),
        ("budget", "seconds"), ("spec_version",),
    ]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=places, value=junk)
def test_no_junk_is_a_defect(api: Api, where: tuple, value: object):
    body = json.loads(json.dumps(SMALL | {"n": [64]}))
    place = body
    for step in where[:-1]:
        place = place[step]
    place[where[-1]] = value
    answer = api.post(content=json.dumps(body), params={"dry_run": "true"}, headers=JSON)
    assert answer.status_code in {200, 400, 422}, answer.text
    if answer.status_code != 200:
        is_problem(answer, answer.status_code)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=junk | st.binary(max_size=60))
def test_no_body_is_a_defect(api: Api, body: object):
    content = body if isinstance(body, bytes) else json.dumps(body)
    answer = api.post(content=content, headers=JSON)
    assert answer.status_code in {400, 422}, answer.text


@pytest.mark.parametrize(
    "key",
    ["x", 10**30, -1, True, 1.5, None, {}, "00000000-0000-0000-0000-00000000000g", "\x00", [1], 2**63],
)
def test_a_cursor_that_no_list_gave_out_is_refused_by_every_list(api: Api, key: object) -> None:
    experiment = api.submitted()
    run = api.get(experiment["links"]["runs"]).json()["items"][0]["id"]
    cursor = base64.urlsafe_b64encode(json.dumps([key]).encode()).decode().rstrip("=")
    lists = [
        "/v1/experiments",
        "/v1/complexity",
        experiment["links"]["runs"],
        experiment["links"]["events"],
        f"/v1/runs/{run}/measurements",
    ]
    for path in lists:
        problem = is_problem(api.get(path, params={"cursor": cursor}), 422)
        assert problem["code"] == "cursor_invalid", path


def test_a_parameter_that_is_given_twice_is_refused(api: Api) -> None:
    before = api.count("experiments")
    answer = api.client.post("/v1/experiments?dry_run=true&dry_run=false", json=SMALL)
    assert pointers(answer) == ["#/query/dry_run"]
    assert api.count("experiments") == before


def test_no_default_is_an_object(api: Api):
    """Generators of clients cannot write one down, and leave out every operation that uses the schema."""
    schemas = api.get("/openapi.json").json()["components"]["schemas"]
    defaults = {
        f"{name}.{field}": described["default"]
        for name, schema in schemas.items()
        for field, described in schema.get("properties", {}).items()
        if isinstance(described.get("default"), dict)
    }
    assert defaults == {}
    assert schemas["ExperimentSpec"]["properties"]["inputs"]["description"] == (
        'if left out: {"kind": "gaussian"}'
    )
