"""Keys, scopes, owners, quotas; no answer without a key outside loopback; secrets stay where they are."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from httpx_sse import connect_sse
from sqlalchemy import select, text

import bfc_client
from bfc_client.errors import NotAllowed
from bfc_core.reproductions.presets import REPRODUCTIONS
from service.api_keys import repository
from service.auth import KeyUse, check_bind, is_loopback
from service.config import Settings
from service.database import database_now
from service.models import ApiKey, Scope
from tests.service.conftest import SMALL, Api, serve, settings_for
from tests.service.test_problems import is_problem

ROOT = Path(__file__).parents[2]
SMALLER = SMALL | {"learners": [{"kind": "algorithm_1"}], "seeds": 1}


@pytest.fixture(scope="module")
def guarded(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server that asks for keys."""
    yield from serve(settings_for(database_url, tmp_path_factory.mktemp("data"), auth="keys"))


def key_of(api: Api, owner: str, *scopes: Scope, **limits: object) -> dict[str, str]:
    """Headers with a new key."""
    with api.database.writing() as session:
        _, secret = repository.issue(
            session, name="test", owner=owner, scopes=scopes or [Scope.READ, Scope.SUBMIT], **limits
        )
    return {"Authorization": f"Bearer {secret}"}


@pytest.mark.parametrize(
    "header",
    [{}, {"Authorization": "Bearer"}, {"Authorization": "Bearer bfc_no"}, {"Authorization": "Basic eDp5"},
     {"Authorization": "Bearer " + "x" * 5000}, {"Authorization": b"Bearer \xff\xfe"}],
)  # fmt: skip
def test_without_a_key_nothing_is_told_and_nothing_is_done(guarded: Api, header: dict) -> None:
    before = guarded.count("experiments")
    for method, path in (("GET", "/v1/experiments"), ("POST", "/v1/experiments"), ("GET", "/v1/targets"),
                         ("GET", "/v1/api-keys"), ("POST", "/v1/runs/x/cancel")):  # fmt: skip
        answer = guarded.client.request(
            method, path, headers=header, json=SMALL if method == "POST" else None
        )
        problem = is_problem(answer, 401)
        assert (problem["code"], answer.headers["WWW-Authenticate"]) == ("key_missing", "Bearer")
    assert guarded.count("experiments") == before
    assert guarded.get("/healthz").status_code == 200


def test_every_operation_under_v1_asks_for_a_key(guarded: Api) -> None:
    """Also those that are added later."""
    for path, operations in guarded.app.openapi()["paths"].items():
        for method in operations:
            answer = guarded.client.request(method.upper(), re.sub(r"\{.*?\}", "x", path))
            assert (answer.status_code == 401) == path.startswith("/v1"), (method, path, answer.status_code)


def test_scopes_open_what_they_name(guarded: Api) -> None:
    reader, submitter = key_of(guarded, "ada", Scope.READ), key_of(guarded, "ada", Scope.SUBMIT)
    admin = key_of(guarded, "root", Scope.ADMIN)
    assert guarded.get("/v1/experiments", headers=reader).status_code == 200
    problem = is_problem(guarded.post(SMALLER, headers=reader), 403)
    assert (problem["code"], problem["allowed"]) == ("scope_missing", ["submit"])
    assert guarded.post(SMALLER, headers=submitter).status_code == 202
    is_problem(guarded.get("/v1/experiments", headers=submitter), 403)
    for headers in (reader, submitter):
        is_problem(guarded.get("/v1/api-keys", headers=headers), 403)
    assert guarded.get("/v1/api-keys", headers=admin).status_code == 200
    assert guarded.post(SMALLER, headers=admin).status_code == 202


def test_an_owner_changes_their_own_things_and_an_admin_all(guarded: Api) -> None:
    ada, bob, admin = key_of(guarded, "ada"), key_of(guarded, "bob"), key_of(guarded, "root", Scope.ADMIN)
    experiment = guarded.post(SMALLER, headers=ada).json()["links"]["self"]
    run = guarded.get(f"{experiment}/runs", headers=bob).json()["items"][0]["id"]
    for path in (f"{experiment}/cancel", f"/v1/runs/{run}/cancel"):
        assert is_problem(guarded.client.post(path, headers=bob), 403)["code"] == "not_the_owner"
    assert guarded.get(experiment, headers=bob).json()["status"] == "queued"
    assert guarded.client.post(f"/v1/runs/{run}/cancel", headers=ada).status_code == 202
    another = guarded.post(SMALLER, headers=ada).json()["links"]["self"]
    assert guarded.client.post(f"{another}/cancel", headers=admin).status_code == 202


def test_idempotency_keys_are_each_owner_s_own(guarded: Api) -> None:
    ada = key_of(guarded, "ada") | {"Idempotency-Key": "mine"}
    bob = key_of(guarded, "bob") | {"Idempotency-Key": "mine"}
    first = guarded.post(SMALLER, headers=ada).json()["id"]
    assert guarded.post(SMALLER, headers=bob).json()["id"] != first
    assert guarded.post(SMALLER, headers=ada).json()["id"] == first


def test_a_key_s_life_over_http(guarded: Api) -> None:
    admin = key_of(guarded, "root", Scope.ADMIN)
    body = {"name": "laptop", "owner": "eve", "scopes": ["read", "submit"], "expires_in_days": 1}
    made = guarded.client.post("/v1/api-keys", json=body, headers=admin)
    assert (made.status_code, made.headers["Cache-Control"]) == (201, "no-store")
    old = {"Authorization": f"Bearer {made.json()['secret']}"}
    assert guarded.get("/v1/experiments", headers=old).status_code == 200
    listed = guarded.get("/v1/api-keys", headers=admin)
    assert made.json()["secret"] not in listed.text
    [mine] = [key for key in listed.json() if key["id"] == made.json()["id"]]
    assert (mine["owner"], mine["last_used_at"] is not None) == ("eve", True)

    path = f"/v1/api-keys/{made.json()['id']}"
    rotated = guarded.client.post(f"{path}/rotate", json={"grace_hours": 1}, headers=admin)
    new = {"Authorization": f"Bearer {rotated.json()['secret']}"}
    assert {guarded.get("/v1/experiments", headers=headers).status_code for headers in (old, new)} == {200}
    assert guarded.client.delete(path, headers=admin).status_code == 204
    assert guarded.get("/v1/experiments", headers=old).status_code == 401
    assert guarded.get("/v1/experiments", headers=new).status_code == 200
    is_problem(guarded.client.delete(path, headers=admin), 404)
    with guarded.database.writing() as session:
        key = session.scalars(select(ApiKey).where(ApiKey.id == UUID(rotated.json()["id"]))).one()
        key.expires_at = database_now(session) - timedelta(seconds=1)
    assert guarded.get("/v1/experiments", headers=new).status_code == 401


def test_only_a_hash_of_a_secret_is_stored(guarded: Api) -> None:
    secret = key_of(guarded, "ada")["Authorization"].removeprefix("Bearer ")
    with guarded.database.reading() as session:
        rows = session.execute(text("SELECT * FROM api_keys")).all()
    assert repository.hash_of(secret) in str(rows)
    assert secret not in str(rows)
    assert len(secret) >= 43, "256 bits"


def test_a_quota_of_live_runs_holds_among_parallel_submissions(guarded: Api) -> None:
    """Two keys of one owner share it: a new key is no new quota."""
    keys = [key_of(guarded, "greedy", live_runs_limit=3) for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda k: guarded.post(SMALLER, headers=keys[k % 2]), range(8)))
    assert sorted(answer.status_code for answer in answers) == [202] * 3 + [429] * 5
    problem = is_problem(next(answer for answer in answers if answer.status_code == 429), 429)
    assert problem["code"] == "quota_exceeded"
    guarded.finish_all()
    assert guarded.post(SMALLER, headers=keys[0]).status_code == 202


def test_a_quota_of_seconds_counts_what_was_used_and_what_waits(guarded: Api) -> None:
    owner = key_of(guarded, "slow")
    assert guarded.post(SMALLER, headers=owner).status_code == 202
    guarded.finish_all()  # one run of 1.5 seconds
    tight = key_of(guarded, "slow", daily_seconds_limit=1.4)
    assert is_problem(guarded.post(SMALLER, headers=tight), 429)["code"] == "quota_exceeded"
    wide = key_of(guarded, "slow", daily_seconds_limit=100.0)
    assert guarded.post(SMALLER, headers=wide).status_code == 202


def test_a_retry_keeps_to_the_quota(guarded: Api) -> None:
    narrow = key_of(guarded, "again", live_runs_limit=1)
    first = guarded.post(SMALLER | {"seeds": [61]}, headers=narrow).json()
    assert guarded.client.post(f"{first['links']['self']}/cancel", headers=narrow).status_code == 202
    second = guarded.post(SMALLER | {"seeds": [62]}, headers=narrow)
    assert second.status_code == 202
    [run] = guarded.get(first["links"]["runs"], headers=narrow).json()["items"]
    refused = guarded.client.post(f"/v1/runs/{run['id']}/retry", headers=narrow)
    assert is_problem(refused, 429)["code"] == "quota_exceeded"
    guarded.finish_all()
    assert guarded.client.post(f"/v1/runs/{run['id']}/retry", headers=narrow).status_code == 202
    guarded.finish_all()


def test_a_key_that_asks_too_fast_waits(guarded: Api) -> None:
    fast = key_of(guarded, "fast", requests_per_minute=3)
    answers = [guarded.get("/v1/targets", headers=fast) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 2
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 20


def test_an_allowance_fills_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("service.auth.time.monotonic", lambda: now[0])
    use, key = KeyUse(), ApiKey(id=None, requests_per_minute=60)
    assert [use.take(key) for _ in range(61)] == [0.0] * 60 + [1.0]
    now[0] = 2.5
    assert [use.take(key) for _ in range(3)][:2] == [0.0, 0.0]


def test_the_client_sends_its_token(guarded: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = key_of(guarded, "ada")["Authorization"].removeprefix("Bearer ")
    monkeypatch.setenv("BFC_TOKEN", secret)
    with bfc_client.connect(str(guarded.client.base_url)) as client:
        assert client.experiments.create(SMALLER).id
    monkeypatch.delenv("BFC_TOKEN")
    with bfc_client.connect(str(guarded.client.base_url)) as client, pytest.raises(NotAllowed):
        next(client.experiments.list())


# --- without keys -----------------------------------------------------------------------------------------


def test_without_keys_only_this_machine_is_answered(api: Api) -> None:
    for headers in ({"Host": "evil.example"}, {"Host": "10.0.0.1:8321"}, {"Origin": "http://evil.example"},
                    {"Origin": "https://localhost.evil.example"}):  # fmt: skip
        assert is_problem(api.client.post("/v1/experiments", json=SMALL, headers=headers), 403)["code"] == (
            "outside_loopback"
        )
    for headers in ({"Host": "localhost:8321"}, {"Host": "[::1]:1"}, {"Origin": "http://127.0.0.1:8321"}):
        assert api.get("/v1/targets", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("host", "is_one"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("10.0.0.1", False), ("example.org", False), ("", False)],
)  # fmt: skip
def test_loopback_is_told_from_the_rest(host: str, is_one: bool) -> None:  # noqa: FBT001
    assert is_loopback(host) == is_one


def test_the_server_refuses_to_start_outside_loopback_without_keys(tmp_path: Path) -> None:
    environment = os.environ | {  # noqa: TID251 - what a process inherits
        "BFC_DATABASE_URL": f"sqlite:///{tmp_path / 'bfc.db'}",
        "BFC_DATA_DIR": str(tmp_path),
    }
    started = subprocess.run(
        [sys.executable, "-m", "service", "--host", "0.0.0.0", "--port", "0"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert started.returncode == 2
    assert "BFC_AUTH=keys" in started.stderr
    assert "Traceback" not in started.stderr
    check_bind(Settings(auth="keys"), "0.0.0.0")


# --- secrets and headers --------------------------------------------------------------------------------------


def test_settings_never_print_the_passwords_they_hold() -> None:
    settings = Settings(
        database_url="postgresql+psycopg://bfc:hunter2@db/bfc", broker_url="amqp://bfc:hunter2@mq/"
    )
    assert "hunter2" not in repr(settings) + str(settings)


def test_a_worker_with_graphs_and_no_gpu_does_not_start() -> None:
    assert Settings(cuda_graphs=True, device="cuda").cuda_graphs
    with pytest.raises(ValueError, match="cuda_graphs needs a GPU"):
        Settings(cuda_graphs=True)


def test_a_key_is_never_logged(guarded: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    headers = key_of(guarded, "ada")
    guarded.get("/v1/experiments", headers=headers)
    guarded.post({"bad": 1}, headers=headers)
    server = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("service"))
    assert "request.answered" in server
    assert headers["Authorization"].removeprefix("Bearer ") not in server


def test_the_command_line_makes_the_first_key(database_url: str) -> None:
    environment = os.environ | {"BFC_DATABASE_URL": database_url}  # noqa: TID251

    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "service.api_keys", *arguments],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    made = run("create", "--owner", "first")
    assert re.fullmatch(r"bfc_[\w-]{43}\n", made.stdout)
    listed = run("list").stdout
    assert "first" in listed
    assert made.stdout.strip() not in listed
    key_id = next(line.split()[0] for line in listed.splitlines() if "first" in line)
    assert run("revoke", key_id).returncode == 0
    assert run("revoke", key_id).returncode == 1


def test_every_answer_carries_the_strict_headers(api: Api) -> None:
    answers: list[httpx.Response] = [
        api.get("/healthz"), api.get("/docs"), api.get("/nothing"), api.post({}), api.client.put("/healthz"),
    ]  # fmt: skip
    for answer in answers:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_stream_ends_when_its_key_does(guarded: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.events.KEY_SECONDS", 0.1)
    watched, other = key_of(guarded, "watched"), key_of(guarded, "watching too")
    # Cells of its own: what other tests have finished would be answered at once.
    answer = guarded.client.post("/v1/experiments", json=SMALLER | {"seeds": [901]}, headers=watched)
    path = answer.json()["links"]["events"]
    with (
        httpx.Client(base_url=guarded.client.base_url, timeout=20) as client,
        connect_sse(client, "GET", path, headers=watched) as source,
        connect_sse(client, "GET", path, headers=other) as goes_on,
    ):
        events = source.iter_sse()
        assert next(events).event == "snapshot"
        with guarded.database.writing() as session:
            for key in session.scalars(select(ApiKey).where(ApiKey.owner == "watched")).all():
                repository.revoke(session, key.id)
        assert [sent.event for sent in events] == [], "cut, and the experiment has not ended"
        guarded.finish_all()
        assert [sent.event for sent in goes_on.iter_sse()][-1] == "end"
    is_problem(guarded.client.get(path, headers=watched), 401)


def test_a_request_does_not_meet_the_quota_that_it_has_filled_itself(guarded: Api) -> None:
    headers = key_of(guarded, "twice", live_runs_limit=1) | {"Idempotency-Key": "once"}
    url, spec = f"{guarded.client.base_url}/v1/experiments", SMALLER | {"seeds": [902]}
    with ThreadPoolExecutor(8) as senders:
        sent = [senders.submit(httpx.post, url, json=spec, headers=headers, timeout=60) for _ in range(8)]
        answers = [each.result() for each in sent]
    assert {answer.status_code for answer in answers} == {202}, [answer.text for answer in answers]
    assert len({answer.json()["id"] for answer in answers}) == 1
    other = guarded.client.post("/v1/experiments", json=spec, headers=headers | {"Idempotency-Key": "x"})
    assert is_problem(other, 429)["code"] == "quota_exceeded"


def test_a_preset_is_started_whole_or_not_at_all(guarded: Api) -> None:
    preset = REPRODUCTIONS["agnostic-floor"]
    runs = sum(len(spec.runs()) for spec in preset.experiments.values())
    poor = key_of(guarded, "poor", live_runs_limit=runs - 1)
    rich = key_of(guarded, "rich", live_runs_limit=runs)
    path, before = f"/v1/reproductions/{preset.name}", guarded.count("experiments")
    assert is_problem(guarded.client.post(path, headers=poor), 429)["code"] == "quota_exceeded"
    assert guarded.count("experiments") == before
    assert guarded.client.post(path, headers=rich).status_code == 202
    assert guarded.count("experiments") == before + len(preset.experiments)
