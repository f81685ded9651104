"""The event stream: complete, in order, resumable, cheap, and no obstacle to a shutdown."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from tests.service.conftest import SMALL, Api, free_port, migrated, serve, settings_for


def read(api: Api, experiment: dict, after: str | None = None) -> Iterator[ServerSentEvent]:
    headers = {} if after is None else {"Last-Event-ID": after}
    with (
        httpx.Client(base_url=api.client.base_url, timeout=20) as client,
        connect_sse(client, "GET", experiment["links"]["events"], headers=headers) as source,
    ):
        assert source.response.headers["Content-Type"].startswith("text/event-stream")
        yield from source.iter_sse()


def test_a_stream_begins_with_a_snapshot_and_ends_with_the_experiment(api: Api):
    experiment = api.submitted()
    worker = threading.Timer(0.5, api.finish_all)
    worker.start()
    events = list(read(api, experiment))
    worker.join()
    assert events[0].event == "snapshot"
    snapshot = events[0].json()
    assert (snapshot["id"], snapshot["status"]) == (experiment["id"], "queued")
    assert events[-1].event == "end"
    assert events[-1].json()["status"] == "succeeded"
    ids = [int(each.id) for each in events[:-1]]
    assert ids == sorted(set(ids))
    succeeded = [
        each.json()["run_id"]
        for each in events
        if each.event == "run.state" and each.json()["status"] == "succeeded"
    ]
    assert len(succeeded) == len(set(succeeded)) == 8
    assert {"run.state", "experiment.progress"} <= {each.event for each in events}


def test_a_stream_resumes_after_the_last_event_seen(api: Api):
    experiment = api.submitted()
    api.finish_all()
    page = api.get(experiment["links"]["events"], params={"limit": 500}).json()["items"]
    middle = len(page) // 2
    rest = list(read(api, experiment, after=str(page[middle]["id"])))
    assert [int(each.id) for each in rest[:-1]] == [item["id"] for item in page[middle + 1 :]]
    assert [each.json() for each in rest[:-1]] == [item["payload"] for item in page[middle + 1 :]]
    assert rest[-1].event == "end"
    assert [each.event for each in read(api, experiment, after=rest[-1].id)] == ["end"]


def test_a_finished_experiment_is_a_snapshot_and_an_end(api: Api, finished: dict):
    assert [each.event for each in read(api, finished)] == ["snapshot", "end"]


def test_events_are_also_a_list_in_pages(api: Api, finished: dict):
    found, cursor = [], None
    while True:
        params = {"limit": 5} | ({"cursor": cursor} if cursor else {})
        page = api.get(finished["links"]["events"], params=params).json()
        found += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == sorted(set(found))
    assert len(found) > 10


@pytest.mark.parametrize("junk", ["x", "-1", "1e3", "9" * 40])
def test_a_last_event_id_that_is_none_is_refused(api: Api, finished: dict, junk: str):
    headers = {"Accept": "text/event-stream", "Last-Event-ID": junk}
    assert api.get(finished["links"]["events"], headers=headers).status_code == 422


def test_forty_watchers_cost_one_poll(api: Api):
    """Statements are counted on the server's engine while the watchers only watch."""
    experiment = api.submitted()
    started = threading.Barrier(41)

    def watch(_: int) -> list[str]:
        events = read(api, experiment)
        names = [next(events).event]
        started.wait()
        return names + [each.event for each in events]

    with ThreadPoolExecutor(40) as pool:
        watching = [pool.submit(watch, k) for k in range(40)]
        started.wait()
        time.sleep(0.5)
        statements: list[str] = []
        engine = api.app.state.database.engine
        event.listen(engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
        time.sleep(2)
        seen = len(statements)
        api.finish_all()
        names = [future.result() for future in watching]
    assert all(each[0] == "snapshot" and each[-1] == "end" for each in names)
    assert all(each == names[0] for each in names)
    # Two statements a poll, four polls a second: one watcher's cost, not forty.
    assert 0 < seen < 40


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """The API as it is started in production: a process of its own."""
    url = f"sqlite:///{tmp_path / 'bfc.db'}"
    migrated(url)
    port = free_port()
    environment = os.environ | {  # noqa: TID251 - what a process inherits
        "BFC_DATABASE_URL": url,
        "BFC_DATA_DIR": str(tmp_path),
    }
    process = subprocess.Popen(
        [
            sys.executable, "-m", "uvicorn", "--factory", "service.app:create_app", "--port", str(port),
            "--timeout-graceful-shutdown", "5", "--log-level", "warning",
        ],
        env=environment,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{address}/healthz")
            break
        except httpx.TransportError:
            time.sleep(0.1)
    yield process, address
    process.kill()
    process.wait()


def test_a_shutdown_ends_streams_and_answers_long_polls(process: tuple[subprocess.Popen, str]):
    server, address = process
    experiment = httpx.post(f"{address}/v1/experiments", json=SMALL).json()
    path = f"{address}/v1/experiments/{experiment['id']}"
    watching = threading.Barrier(21)

    def stream() -> list[str]:
        names = []
        with httpx.Client(timeout=60) as client, connect_sse(client, "GET", f"{path}/events") as source:
            events = source.iter_sse()
            names.append(next(events).event)
            watching.wait(60)
            with suppress(httpx.RemoteProtocolError):
                names += [each.event for each in events]
        return names

    with ThreadPoolExecutor(25) as pool:
        polls = [pool.submit(httpx.get, path, params={"wait": 50}, timeout=60) for _ in range(5)]
        time.sleep(0.5)
        streams = [pool.submit(stream) for _ in range(20)]
        # On a busy machine that takes a while; the polls, which came first, are waiting by then.
        watching.wait(60)
        server.send_signal(signal.SIGTERM)
        assert server.wait(40) in {0, -signal.SIGTERM}  # the polls would go on for 50 seconds
        assert {poll.result().status_code for poll in polls} == {200}
        assert all(each.result()[:1] == ["snapshot"] for each in streams)


def test_a_stream_survives_a_database_that_goes_away_for_a_while(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'bfc.db'}"
    migrated(url)
    for api in serve(settings_for(url, tmp_path)):
        experiment = api.submitted()
        events = read(api, experiment)
        assert next(events).event == "snapshot"
        engine = api.app.state.database.engine
        event.listen(engine, "before_cursor_execute", away)
        time.sleep(1)
        assert api.get(experiment["links"]["self"]).status_code == 503
        event.remove(engine, "before_cursor_execute", away)
        api.finish_all()
        assert [each.event for each in events][-1] == "end"


def away(*_: object) -> None:
    raise OperationalError("SELECT", {}, Exception("the connection is gone"))
