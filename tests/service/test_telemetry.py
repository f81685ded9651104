"""Log lines carry ids and no secrets; /metrics tells what the database and this process know."""

import json
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event

from service.config import Settings
from service.database import database_now
from service.metrics import WorkCollector
from service.models import AttemptOutcome, Worker
from service.runs import lifecycle, tallies
from service.runs.moves import Failure
from service.runs.resumption import retry_run
from service.telemetry import JsonLines, Sieve, TextLines, parsed
from tests.service.conftest import Api
from tests.service.test_defects import away

ROOT = Path(__file__).parents[2]
SETTINGS = Settings(
    database_url="postgresql+psycopg://bfc:hunter%402@db/bfc", broker_url="amqp://bfc:swordfish@mq/"
)


def record(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("service", logging.INFO, "", 0, message, arguments, None)


def test_a_line_of_ours_is_an_object_with_its_fields() -> None:
    line = JsonLines(Sieve(SETTINGS)).format(record("pack.claimed pack_id=%s fence=%s runs=%s", 7, 2, 16))
    document = json.loads(line)
    assert (document["event"], document["pack_id"], document["fence"]) == ("pack.claimed", "7", "2")
    assert {"time", "level", "logger", "message"} <= set(document)
    assert document["time"].endswith("+00:00")


def test_a_stranger_s_line_is_kept_whole() -> None:
    assert parsed("Connected to amqp://guest:**@127.0.0.1:5672//") == (None, {})
    assert parsed('request.answered {"status": 200}') == ("request.answered", {"status": 200})
    assert parsed("stack.child_ended name=api error='a b'")[1] == {"name": "api", "error": "a b"}
    line = "webhook.failed id=7 error=the host is private, x = y is_final=False"
    assert parsed(line)[1] == {"id": "7", "error": "the host is private, x = y", "is_final": "False"}


@pytest.mark.parametrize("lines", [JsonLines, TextLines])
def test_no_secret_comes_through_in_line_argument_or_traceback(lines: type) -> None:
    formatter = lines(Sieve(SETTINGS))
    key = "bfc_" + "k" * 43
    try:
        pytest.fail(f"postgresql://bfc:hunter%402@db {key}")
    except pytest.fail.Exception:
        failed = logging.LogRecord(
            "service", logging.ERROR, "", 0, "it failed: %s", ("hunter@2",), sys.exc_info()
        )
    text = formatter.format(failed) + formatter.format(
        record("broker amqp://bfc:swordfish@mq/ token=%s", key)
    )
    for secret in ("hunter%402", "hunter@2", "swordfish", key):
        assert secret not in text
    assert "Traceback" in text


def test_processes_with_wrong_passwords_do_not_tell_them(tmp_path: Path) -> None:
    """Neither the API, nor the worker, nor the migrations, whatever they complain about."""
    environment = os.environ | {  # noqa: TID251 - what a process inherits
        "BFC_DATABASE_URL": "postgresql+psycopg://nobody:correcthorse@127.0.0.1:1/none",
        "BFC_BROKER_URL": "amqp://nobody:batterystaple@127.0.0.1:1//",
        "BFC_DATA_DIR": str(tmp_path),
        "BFC_LOG_LEVEL": "DEBUG",
        "BFC_LOG_FORMAT": "json",
    }
    for module in ("service", "worker", "migrations"):
        command = [sys.executable, "-m", module] + (["--port", "0"] if module == "service" else [])
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        output = process.stdout.readline()  # it is up, and has something to say
        try:
            output += process.communicate(timeout=3)[0]
        except subprocess.TimeoutExpired:
            process.terminate()
            try:
                output += process.communicate(timeout=20)[0]
            except subprocess.TimeoutExpired:
                process.kill()
                output += process.communicate()[0]
        assert output, module
        assert "correcthorse" not in output, module
        assert "batterystaple" not in output, module


def test_a_line_about_a_request_carries_its_id(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    answer = api.get("/v1/targets")
    found: list[dict] = []
    until = time.monotonic() + 10
    while not found and time.monotonic() < until:  # it is written after the answer has gone
        time.sleep(0.01)
        lines = [parsed(each.getMessage()) for each in list(caplog.records)]
        found = [
            f
            for event, f in lines
            if event == "request.answered" and f["request_id"] == answer.headers["X-Request-Id"]
        ]
    [fields] = found
    assert (fields["status"], fields["path"]) == (200, "/v1/targets")


# --- metrics ------------------------------------------------------------------------------------------------


def scraped(api: Api) -> dict[str, dict[tuple, float]]:
    """Samples by name, then by their labels' values."""
    for collector in api.app.state.metrics.registry._collector_to_names:
        if isinstance(collector, WorkCollector):
            collector.forget()
    answer = api.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    found: dict[str, dict[tuple, float]] = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation, family.name
        for sample in family.samples:
            assert not {"id", "n", "dim", "run_id", "experiment_id"} & set(sample.labels)
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_metrics_follow_the_work(api: Api) -> None:
    before = scraped(api)
    api.submitted()
    queued = scraped(api)
    assert queued["bfc_runs"]["queued",] == before["bfc_runs"]["queued",] + 8
    assert queued["bfc_queue_packs"]["train.cpu",] > 0
    assert queued["bfc_queue_oldest_seconds"]["train.cpu",] >= 0
    claim = api.claim()
    with api.database.writing() as session:
        lifecycle.crash(session, claim, Failure("child_died", "it died"), crash_limit=3)
    api.finish_all()
    after = scraped(api)
    assert after["bfc_runs"]["queued",] == 0
    key = ("algorithm_1", "succeeded")
    assert after["bfc_runs_finished_total"][key] == before.get("bfc_runs_finished_total", {}).get(key, 0) + 2
    kernel = ("kernel_ridge",)
    assert after["bfc_run_duration_seconds_count"][kernel] >= 2
    assert (
        after["bfc_run_duration_seconds_sum"][kernel] == 1.5 * after["bfc_run_duration_seconds_count"][kernel]
    )
    solves = after["bfc_kernel_solve_duration_seconds_count"]
    assert set(solves) == {kernel}
    assert after["bfc_kernel_solve_duration_seconds_sum"][kernel] == 0.5 * solves[kernel] > 0
    assert after["bfc_train_steps_total"][kernel] == 40 * after["bfc_run_duration_seconds_count"][kernel]
    assert after["bfc_queue_wait_seconds_count"]["train.cpu",] > 0
    assert 0 <= after["bfc_queue_wait_seconds_sum"]["train.cpu",] < 3600
    assert after["bfc_build_info"]
    assert after["bfc_database_up"][()] == 1
    assert "bfc_divergences_total" in after


def test_metrics_know_the_workers_and_what_they_lost(api: Api) -> None:
    api.submitted()
    claim = api.claim()
    with api.database.writing() as session:
        session.add(
            Worker(
                id=f"w-{claim.pack_id}",
                hostname="h",
                pid=1,
                queue="train.cpu",
                device="cpu",
                concurrency=3,
                version="0",
                started_at=database_now(session),
                heartbeat_at=database_now(session),
                fenced_writes=2,
            )
        )
    with api.database.writing() as session:
        lifecycle.take_over(session, "test", 3, mine="other")
    found = scraped(api)
    assert found["bfc_workers"]["cpu",] >= 1
    assert found["bfc_worker_last_heartbeat_timestamp_seconds"]["cpu",] > 1.7e9
    assert found["bfc_free_slots"]["train.cpu",] >= 3
    assert found["bfc_fenced_writes_total"][()] >= 2
    assert found["bfc_lease_expired_total"][()] >= 1, AttemptOutcome.EXPIRED
    api.finish_all()


def test_a_scrape_reads_no_table_that_grows_with_the_runs(api: Api) -> None:
    """However many runs there are, none is looked at: tallies are summed, of packs those that wait or run are read."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    engine = api.app.state.database.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        scraped(api)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    tables = {name for statement in statements for name in re.findall(r"(?:FROM|JOIN) (\w+)", statement)}
    assert tables == {"tallies", "packs", "workers"}
    packs = [statement for statement in statements if "FROM packs" in statement]
    assert all("WHERE packs.status" in statement for statement in packs)


def test_no_counter_falls_whichever_process_answers(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when a failed run is tried again, nor when tallies are folded, nor from one process to the next."""
    processes = [WorkCollector(api.database, api.settings) for _ in range(3)]
    highest: dict[tuple, float] = {}

    def scrape(number: int) -> None:
        for family in processes[number % len(processes)].collect():
            if family.type not in {"counter", "summary"}:
                continue
            for sample in family.samples:
                key = (sample.name, *sorted(sample.labels.items()))
                assert sample.value >= highest.get(key, 0.0), key
                highest[key] = sample.value

    monkeypatch.setattr(tallies, "FOLD_ROWS", 0)
    experiment = api.submitted()
    failed = api.claim()
    scrape(0)
    with api.database.writing() as session:
        lifecycle.fail(session, failed, Failure("child_died", "it died"), is_shared=True)
    scrape(1)
    with api.database.writing() as session:
        for run in failed.runs:
            retry_run(session, run.id)
    scrape(2)
    for number in range(3, 30):
        claim = api.claim()
        if claim is None:
            break
        api.finish(claim)
        scrape(number)
        with api.database.writing() as session:
            tallies.fold(session)
    assert api.get(experiment["links"]["self"]).json()["status"] == "succeeded"
    assert highest["bfc_runs_finished_total", ("learner_kind", "algorithm_1"), ("outcome", "failed")] >= 2


def test_readiness_warns_of_a_worker_with_other_limits(api: Api) -> None:
    def workers_check(**limits: float) -> dict:
        with api.database.writing() as session:
            now = database_now(session)
            session.merge(
                Worker(
                    id="w-limits", hostname="h", pid=1, queue="train.cpu", device="cpu", concurrency=1, version="0",
                    started_at=now, heartbeat_at=now, **limits,
                )
            )  # fmt: skip
        return api.get("/readyz").json()["checks"]["workers"]

    mine = api.settings.pack_memory_limit_bytes
    rhythm = api.settings.heartbeat_interval.total_seconds()
    agreed = workers_check(pack_memory_limit_bytes=mine, heartbeat_seconds=rhythm)
    assert (agreed["ok"], agreed["warning"]) == (True, None)
    warned = workers_check(pack_memory_limit_bytes=mine // 4, heartbeat_seconds=2 * rhythm)
    assert warned["ok"], "a warning, no outage"
    assert "4 GiB a pack, workers allow 1: set BFC_PACK_MEMORY_LIMIT_BYTES alike" in warned["warning"]
    assert "BFC_HEARTBEAT_INTERVAL" in warned["warning"]


def test_requests_are_timed_by_route_and_never_by_path(api: Api) -> None:
    experiment = api.submitted()
    api.get(experiment["links"]["self"])
    api.get("/nothing/here")
    found = scraped(api)["bfc_http_request_duration_seconds_count"]
    assert found["GET", "/v1/experiments/{experiment_id}", "2xx"] >= 1
    assert found["any", "none", "4xx"] >= 1
    assert not any(experiment["id"] in str(labels) or "nothing" in str(labels) for labels in found)
    api.finish_all()


def test_metrics_say_that_the_database_is_away(api: Api) -> None:
    engine = api.app.state.database.engine
    event.listen(engine, "before_cursor_execute", away)
    try:
        found = scraped(api)
    finally:
        event.remove(engine, "before_cursor_execute", away)
    assert found["bfc_database_up"][()] == 0
    assert "bfc_runs" not in found
