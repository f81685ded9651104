"""What nobody asked for: a defect, a database that is away, a request that is still being answered."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from bfc_core.specs import ExperimentSpec, Outcome, Report
from service.models import IdempotencyKey
from service.runs import lifecycle
from service.runs.moves import Failure
from tests.service.conftest import SMALL, Api, migrated, serve, settings_for


def test_a_defect_is_a_problem_without_a_trace_and_the_log_has_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    url = f"sqlite:///{tmp_path / 'bfc.db'}"
    migrated(url)

    def defect() -> None:
        raise ZeroDivisionError("secret path /srv/bfc.py")

    for api in serve(settings_for(url, tmp_path)):
        api.app.add_api_route("/defect", defect)
        with caplog.at_level(logging.ERROR):
            answer = api.get("/defect")
        assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["request_id"] == answer.headers["X-Request-Id"]
        assert "Content-Security-Policy" in answer.headers
        assert "secret" not in answer.text
        assert answer.json()["request_id"] in caplog.text
        assert "ZeroDivisionError" in caplog.text


def away(*_: object) -> None:
    raise OperationalError("SELECT", {}, Exception("the connection is gone"))


def test_a_database_that_is_away_is_503_everywhere_and_nothing_is_half_stored(api: Api):
    experiment = api.submitted()
    before = api.count("experiments")
    engine = api.app.state.database.engine
    event.listen(engine, "before_cursor_execute", away)
    try:
        answers = [
            api.post(),
            api.get("/v1/experiments"),
            api.get(experiment["links"]["self"], params={"wait": 1}),
            api.get(experiment["links"]["results"]),
            api.client.post(f"{experiment['links']['self']}/cancel"),
        ]
        ready = api.get("/readyz")
        alive = api.get("/healthz")
    finally:
        event.remove(engine, "before_cursor_execute", away)
    assert {answer.status_code for answer in answers} == {503}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
    assert (ready.status_code, ready.json()["checks"]["database"]["ok"]) == (503, False)
    assert alive.status_code == 200
    assert api.count("experiments") == before


def test_a_row_that_cannot_be_stored_leaves_nothing_behind(api: Api):
    """The last statement of a submission fails: none of the earlier ones may stay."""
    before = {
        table: api.count(table) for table in ("experiments", "packs", "runs", "experiment_runs", "events")
    }
    engine = api.app.state.database.engine

    def away_at_the_end(connection, cursor, statement, *_: object) -> None:
        if statement.startswith("INSERT INTO idempotency_keys"):
            away()

    event.listen(engine, "before_cursor_execute", away_at_the_end)
    try:
        assert api.post(headers={"Idempotency-Key": "half"}).status_code == 503
    finally:
        event.remove(engine, "before_cursor_execute", away_at_the_end)
    assert before == {table: api.count(table) for table in before}
    again = api.post(headers={"Idempotency-Key": "half"})
    assert again.status_code == 202
    assert "Idempotency-Replayed" not in again.headers


@pytest.mark.servers
def test_a_key_whose_first_request_is_not_answered_yet_is_409(new_postgres: str, tmp_path: Path):
    """On SQLite there is one writer at a time: a second request with the key waits its turn."""
    migrated(new_postgres)
    for api in serve(settings_for(new_postgres, tmp_path)):
        with api.database.writing() as session:
            session.add(
                IdempotencyKey(
                    owner="local",
                    key="slow",
                    body_hash="0" * 64,
                    experiment_id=None,
                    status_code=202,
                    answer={},
                    created_at=datetime.now(UTC),
                )
            )
            session.flush()
            answer = api.post(headers={"Idempotency-Key": "slow"})
            assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_in_flight")
            assert answer.headers["Retry-After"]
            session.rollback()
        assert api.post(headers={"Idempotency-Key": "slow"}).status_code == 202


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_keys_are_bounded(api: Api, key: str):
    answer = api.post(headers={"Idempotency-Key": key})
    assert answer.status_code == 422


def test_names_are_kept_as_they_are(api: Api):
    for name in (
        "=1+1",
        "<script>alert(1)</script>",
        "'; DROP TABLE runs; --",
        "Ω ⊗ 模型",
        "../../etc/passwd",
    ):
        experiment = api.submitted(name=name)
        assert api.get(experiment["links"]["self"]).json()["name"] == name
        page: httpx.Response = api.get(experiment["links"]["results"])
        assert "attachment" in page.headers["Content-Disposition"]
        assert str(UUID(experiment["id"])) in page.headers["Content-Disposition"]


def test_the_stored_spec_is_the_one_that_was_hashed(api: Api):
    experiment = api.submitted()
    spec = ExperimentSpec.model_validate(experiment["spec"])
    assert spec == ExperimentSpec.model_validate(SMALL)
    assert experiment["spec_hash"] == spec.content_hash()


def test_a_database_that_takes_no_more_is_503_until_it_does(api: Api):
    """A full disk (SQLite counts pages) or a server made read-only: reading goes on, nothing is half stored."""
    experiment = api.submitted()
    before = api.count("experiments")
    engine = api.app.state.database.engine

    def refuse(connection, *_: object) -> None:
        cursor = connection.cursor()
        if engine.dialect.name == "sqlite":
            cursor.execute("PRAGMA max_page_count = 1")
        else:
            cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
            connection.commit()
        cursor.close()

    engine.dispose()
    event.listen(engine, "connect", refuse)
    try:
        answers = [
            api.post(SMALL | {"name": f"{'x' * 190}{number}", "seeds": 40}, params={"force": True})
            for number in range(10)
        ]
        reading = api.get(experiment["links"]["self"])
    finally:
        event.remove(engine, "connect", refuse)
        engine.dispose()
    refused = [answer for answer in answers if answer.status_code != 202]
    assert {answer.status_code for answer in refused} == {503}
    assert reading.status_code == 200
    # What the file has room for within its pages is accepted whole.
    assert api.count("experiments") == before + len(answers) - len(refused)
    assert api.post(params={"force": True}).status_code == 202


def test_whatever_a_process_wrote_before_it_died_is_stored(api: Api):
    """PostgreSQL refuses NUL in a text: the end of such an attempt would be tried again for ever."""
    api.finish_all()
    experiment = api.submitted(learners=[{"kind": "joint"}], seeds=1)
    failure = Failure("child_died", "it said \0", log="core dumped\0\0")
    for _ in range(2):
        claim = api.claim()
        with api.database.writing() as session:
            lifecycle.crash(session, claim, failure, crash_limit=2)
    (run,) = api.get(experiment["links"]["runs"]).json()["items"]
    assert (run["status"], run["message"]) == (
        "failed",
        "2 crashes without progress; the last: it said \N{REPLACEMENT CHARACTER}",
    )
    assert api.client.post(f"/v1/runs/{run['id']}/retry").status_code == 202
    refused = Report(outcome=Outcome.FAILED, seconds=1, message="no \0 here")
    api.finish_all(lambda _run: refused)
    (run,) = api.get(experiment["links"]["runs"]).json()["items"]
    assert run["message"] == "no \N{REPLACEMENT CHARACTER} here"


@pytest.mark.servers
def test_an_api_that_came_before_its_migrations_says_so(new_postgres: str, tmp_path: Path):
    for api in serve(settings_for(new_postgres, tmp_path)):
        for answer in (api.get("/v1/experiments"), api.post()):
            assert (answer.status_code, answer.json()["code"]) == (503, "database_not_migrated")
            assert answer.headers["Retry-After"] == "30"
        migrated(new_postgres)
        assert api.post().status_code == 202
