import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bfc_client.client import Client
from bfc_client.errors import (
    Conflict,
    InvalidSettings,
    NotFound,
    ServerFailed,
    ServerUnreachable,
    TooManyRequests,
    UnexpectedAnswer,
    Unprocessable,
)
from bfc_client.transport import ATTEMPTS, LONGEST_DELAY_SECONDS, Transport, delay_before, segment

SPEC = {
    "name": "x",
    "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
    "learners": [{"kind": "algorithm_1"}],
    "n": 64,
    "dim": 6,
    "seeds": 1,
}
STATE = {
    "id": "0d9a4a52-6b5c-4a35-8e7b-b1f0a6a1c9aa",
    "name": "x",
    "status": "queued",
    "spec_hash": "h",
    "created_at": "2026-01-01T00:00:00Z",
    "runs": {"queued": 1, "total": 1},
}


def test_a_create_that_met_overload_and_a_cut_line_is_sent_again_under_one_key(script):
    script.answer(503, {"title": "away"})
    script.drop()
    script.answer(202, STATE)
    with Client(script.transport()) as client:
        experiment = client.experiments.create(SPEC)
    assert experiment.id == STATE["id"]
    assert len(script.asked) == 3
    keys = {asked.headers["Idempotency-Key"] for asked in script.asked}
    assert len(keys) == 1
    assert len(keys.pop()) >= 32
    assert len({asked.body for asked in script.asked}) == 1
    assert len(script.slept) == 2


def test_two_creates_carry_different_keys(script):
    script.answer(202, STATE)
    with Client(script.transport()) as client:
        client.experiments.create(SPEC)
        client.experiments.create(SPEC)
    first, second = (asked.headers["Idempotency-Key"] for asked in script.asked)
    assert first != second


def test_retry_after_is_obeyed(script):
    script.answer(429, {}, Retry_After="7")
    script.answer(200, {"items": []})
    script.transport().get_json("/v1/learners")
    assert script.slept == [7.0]


def test_retry_after_as_a_date_is_obeyed():
    moment = datetime.now(UTC) + timedelta(seconds=20)
    assert 18 <= delay_before(0, format_datetime(moment)) <= 20


def test_retry_after_that_is_nonsense_is_ignored():
    assert delay_before(0, "soon") <= 0.25


def test_patience_ends(script):
    script.answer(429, {"title": "slower", "detail": "too many"})
    with pytest.raises(TooManyRequests, match="too many"):
        script.transport().get_json("/v1/experiments")
    assert len(script.asked) == ATTEMPTS


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (409, Conflict), (422, Unprocessable)])
def test_a_refusal_is_typed_and_not_repeated(script, status, kind):
    places = [{"pointer": "#/n/0", "code": "small", "detail": "too small"}]
    script.answer(
        status, {"title": "no", "detail": "not so", "code": "c", "errors": places, "request_id": "r1"}
    )
    with pytest.raises(kind) as caught:
        script.transport().get_json("/v1/experiments")
    assert len(script.asked) == 1
    assert caught.value.errors[0].pointer == "#/n/0"
    assert (caught.value.code, caught.value.request_id, caught.value.status) == ("c", "r1", status)
    assert str(caught.value) == "not so; #/n/0: too small"


def test_a_page_of_a_proxy_is_a_server_failure(script):
    script.answer(502, b"<html>bad gateway</html>")
    with pytest.raises(ServerFailed, match="502"):
        script.transport(attempts=2).get_json("/v1/experiments")


def test_another_web_server_is_recognised(script):
    script.answer(200, b"<html>hello</html>")
    with pytest.raises(UnexpectedAnswer, match="not JSON"):
        script.transport().get_json("/v1/experiments")


def test_nobody_listening_is_unreachable():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        slept: list[float] = []
        with (
            Transport(url, sleep=slept.append, attempts=3) as transport,
            pytest.raises(ServerUnreachable, match=url),
        ):
            transport.get_json("/v1/experiments")
    assert len(slept) == 2


def test_pages_are_followed_to_the_end(script):
    script.answer(200, {"items": [1, 2], "next_cursor": "c/ä"})
    script.answer(200, {"items": [3], "next_cursor": None})
    assert list(script.transport().pages("/v1/x", {"status": "failed"})) == [1, 2, 3]
    assert script.asked[1].path == "/v1/x?limit=100&status=failed&cursor=c%2F%C3%A4"


def test_the_token_travels(script):
    script.answer(200, {})
    script.transport(token="secret").get_json("/v1/x")
    assert script.asked[0].headers["Authorization"] == "Bearer secret"


def test_a_proxy_of_the_surroundings_is_not_asked_for_loopback(script, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    script.answer(200, {"items": []})
    assert script.transport(attempts=1).get_json("/v1/learners") == {"items": []}


@pytest.mark.parametrize("url", ["", "127.0.0.1:80", "ftp://x", "http://", "http://[::1"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(InvalidSettings):
        Transport(url)


@given(st.integers(0, 200))
def test_delays_grow_to_a_ceiling_and_are_never_nothing(attempt):
    assert 0.05 <= delay_before(attempt) <= LONGEST_DELAY_SECONDS


@given(st.text(max_size=20))
def test_a_segment_never_leaves_its_place(text):
    quoted = segment(text)
    assert quoted
    assert "/" not in quoted
    assert "?" not in quoted
    assert quoted not in {".", ".."}
