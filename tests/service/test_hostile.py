"""Input that means harm: formulas in exports, names that climb out of folders, bodies made to cost time."""

import csv
import io
import json
import socket
import time

import pytest

from service import middleware
from service.experiments.results import FORMULA_STARTS, as_csv
from tests.service.conftest import SMALL, Api
from tests.service.test_problems import JSON, is_problem

CLIMBING = [
    "..", "../comparison", "..%2f..%2fetc%2fpasswd", "%2e%2e%2fcomparison", "....//comparison", "comparison%00",
    "/etc/passwd", "comparison/../comparison", "C:%5cwindows", "~root", "a" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("start", [*FORMULA_STARTS, "\n=", " ="])
def test_a_cell_that_a_spreadsheet_would_run_is_text_in_the_export(start: str) -> None:
    rows = [{"name": f"{start}cmd|' /C calc'!A0", "nmse": -1.5}]
    [cells] = csv.DictReader(io.StringIO(as_csv(rows).decode(), newline=""))
    assert cells["name"][0] not in "=+-@\t\r"
    assert not cells["name"].lstrip().startswith(("=", "+", "-", "@"))
    assert cells["nmse"] == "-1.5", "a number is no formula"


@pytest.mark.parametrize("name", ["=1+1", "@SUM(1)", "-2+3", "+1", '=HYPERLINK("http://x")', "  =1"])
def test_an_experiment_named_like_a_formula_is_harmless_in_its_export(api: Api, name: str) -> None:
    experiment = api.submitted(name=name)
    export = api.get(experiment["links"]["results"]).text
    for row in csv.DictReader(io.StringIO(export)):
        assert row["experiment"] == f"'{name}"


@pytest.mark.parametrize("name", CLIMBING)
def test_a_name_never_climbs_out_of_its_place(api: Api, finished: dict, name: str) -> None:
    base = finished["links"]["self"]
    for path in (f"{base}/charts/{name}.svg", f"{base}/charts/{name}.vl.json", f"/v1/learners/{name}",
                 f"/v1/runs/{name}", f"/static/{name}", f"{base}/results.{name}"):  # fmt: skip
        answer = api.get(path)
        # httpx resolves plain dots itself; whatever is left of the path is either a thing or nothing.
        assert answer.status_code in {200, 307, 404, 405}, path
        if answer.status_code >= 400:
            is_problem(answer, answer.status_code)
        assert "root:" not in answer.text


def test_dots_sent_as_they_are_find_nothing(api: Api) -> None:
    """Without a client that tidies the path up first."""
    for path in ("/static/../app.py", "/static/..%2f..%2fapp.py", "//etc/passwd", "/v1/../../etc/passwd"):
        answer = raw(api, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 404"), path
        assert b"application/problem+json" in answer


def test_brackets_nest_to_the_limit_and_no_further(api: Api) -> None:
    at, beyond = middleware.MAX_NESTING - 1, middleware.MAX_NESTING
    for depth, status in ((at, 422), (beyond, 400)):
        body = json.dumps(SMALL)[:-1] + ', "deep": ' + "[" * depth + "]" * depth + "}"
        is_problem(api.post(content=body, headers=JSON), status)
    in_text = json.dumps(SMALL | {"name": "[" * 150})
    assert api.post(content=in_text, headers=JSON).status_code == 202


def test_a_body_in_tiny_pieces_is_a_body(api: Api) -> None:
    def pieces():
        for letter in json.dumps(SMALL):
            yield letter.encode()

    assert api.post(content=pieces(), headers=JSON).status_code == 202


def test_a_body_that_never_comes_is_given_up(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "BODY_SECONDS", 0.3)
    head = b"POST /v1/experiments HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    answer = raw(api, head + b"Connection: close\r\nContent-Length: 100\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"body_too_slow" in answer


def test_a_client_that_leaves_in_the_middle_of_its_body_stores_nothing(api: Api) -> None:
    before = api.count("experiments")
    body = json.dumps(SMALL).encode()
    head = b"POST /v1/experiments HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with connected(api) as client:
        client.sendall(head + f"Content-Length: {len(body) + 1}\r\n\r\n".encode() + body)
        time.sleep(0.1)
    assert api.get("/healthz").status_code == 200
    assert api.count("experiments") == before


def test_a_thousand_idle_connections_do_not_keep_others_out(api: Api) -> None:
    idle = [connected(api) for _ in range(1000)]
    try:
        assert api.get("/healthz").status_code == 200
        assert api.post().status_code == 202
    finally:
        for client in idle:
            client.close()


@pytest.mark.parametrize(
    "header", [b"X-Large: " + b"a" * 70_000, b"Cookie: " + b"\xff" * 100, b"Host: a\r\nHost: b"]
)
def test_strange_headers_are_no_defect(api: Api, header: bytes) -> None:
    answer = raw(
        api, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + header + b"\r\n\r\n"
    )
    assert answer[:10] in {b"HTTP/1.1 2", b"HTTP/1.1 4"}


def connected(api: Api) -> socket.socket:
    return socket.create_connection((api.client.base_url.host, api.client.base_url.port), timeout=10)


def raw(api: Api, request: bytes) -> bytes:
    """What the server answers to exactly these bytes."""
    with connected(api) as client:
        client.sendall(request)
        answer = b""
        while piece := client.recv(65536):
            answer += piece
        return answer
