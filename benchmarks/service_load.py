"""What the service costs and how fast it comes back: event streams, a frozen broker, a stack killed at once.

The API and the stack run as the processes that a deployment runs. Nothing here is a test: numbers depend on the
machine and on what else it does, which the record says.
"""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil
from sqlalchemy import text

from benchmarks.stack import ROOT, answers, api_alone, clean, wait_until
from benchmarks.timing import Ratio, Result
from service.database import open_database

CLAIM = (
    "400 clients of event streams cost the API less than 50 MiB; its 99th percentile stays below one second while "
    "the broker is frozen; a stack of which every process was killed at once works again, from its checkpoint, "
    "within five seconds of being started."
)

STREAMS = 400
REQUESTS = 200
MIB = 2**20

_SPEC = {
    "name": "load",
    "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
    "learners": [
        {"kind": "joint", "width": 4, "batch_size": 16, "steps_per_stage": 1_000_000, "step_size": 1e-3}
    ],
    "n": 64,
    "dim": 6,
    "seeds": 1,
    "budget": {"test_samples": 64},
}


def measure(repetitions: int) -> Result:
    """Measure all three; the slow ones fewer times."""
    streams = tuple(_streams() for _ in range(min(repetitions, 3)))
    frozen = tuple(_frozen_broker() for _ in range(min(repetitions, 3)))
    killed = tuple(_killed_at_once() for _ in range(repetitions))
    return Result(
        ratios=[
            Ratio(f"MiB more for {STREAMS} event streams", streams, bound=50, is_upper=True),
            Ratio("seconds, 99th percentile of POST under a frozen broker", frozen, bound=1, is_upper=True),
            Ratio("seconds from start to training again", killed, bound=5, is_upper=True),
        ],
        seconds={},
        facts={"streams": STREAMS, "requests under the frozen broker": REQUESTS, "database": "SQLite"},
    )


def _streams() -> float:
    with tempfile.TemporaryDirectory() as folder, api_alone(Path(folder)) as (process, url):
        experiment = httpx.post(f"{url}/v1/experiments", json=_SPEC).json()["links"]["events"]

        async def watch_all() -> float:
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(timeout=60, limits=limits) as client:
                await _first_event(client, url + experiment)  # imports and pools are warm
                before = _resident(process.pid)
                opened = [
                    asyncio.create_task(_first_event(client, url + experiment, stay=10))
                    for _ in range(STREAMS)
                ]
                await asyncio.sleep(8)
                grown = _resident(process.pid) - before
                await asyncio.gather(*opened)
                return grown

        return asyncio.run(watch_all()) / MIB


async def _first_event(client: httpx.AsyncClient, url: str, stay: float = 0.0) -> None:
    async with client.stream("GET", url, headers={"Accept": "text/event-stream"}) as response:
        async for line in response.aiter_lines():
            if line == "event: snapshot":
                break
        await asyncio.sleep(stay)


def _frozen_broker() -> float:
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as frozen:
        # It takes connections and never says a word, as a stopped process does.
        broker = f"redis://127.0.0.1:{frozen.getsockname()[1]}/0"
        with api_alone(Path(folder), BFC_BROKER_URL=broker) as (_, url), httpx.Client(timeout=60) as client:
            seconds = []
            for seed in range(REQUESTS):
                began = time.monotonic()
                answer = client.post(f"{url}/v1/experiments", json=_SPEC | {"seeds": [seed]})
                seconds.append(time.monotonic() - began)
                answer.raise_for_status()
            return sorted(seconds)[int(0.99 * REQUESTS)]


def _killed_at_once() -> float:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _up(folder)
        httpx.post(f"{_url(folder)}/v1/experiments", json=_SPEC).raise_for_status()
        database = open_database(f"sqlite:///{folder / 'bfc.db'}")

        def state() -> tuple[int, int, int]:
            with database.reading() as session:
                row = session.execute(text("SELECT fence, step, checkpoint_step FROM packs")).one()
            return row[0], row[1], row[2]

        wait_until(lambda: state()[2] > 0)
        for process in _family(name):
            process.kill()
        wait_until(lambda: not _family(name))
        fence, _, saved = state()
        (folder / "embedded.json").unlink(missing_ok=True)
        began = time.monotonic()
        second = _up(folder, is_waited_for=False)
        try:
            wait_until(lambda: state()[0] > fence and state()[1] > saved)
            return time.monotonic() - began
        finally:
            database.dispose()
            second.send_signal(signal.SIGTERM)
            second.wait(60)


def _up(folder: Path, *, is_waited_for: bool = True) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "service.embedded", "--data-dir", str(folder), "--port", "0"],
        cwd=ROOT, env=clean() | {"BFC_CHECKPOINT_INTERVAL": "1", "BFC_CHILD_THREADS": "1", "BFC_QUEUE": folder.name},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    if is_waited_for:
        wait_until(lambda: (folder / "embedded.json").exists() and answers(_url(folder)))
    return process


def _family(folder: str) -> list[psutil.Process]:
    """Every process of the stack in a folder, known by its queue's name."""
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.environ().get("BFC_QUEUE") == Path(folder).name
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


def _url(folder: Path) -> str:
    return str(json.loads((folder / "embedded.json").read_text())["url"])


def _resident(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss)
