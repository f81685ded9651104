"""How long work rests after every process of a stack was killed: SIGKILL in the middle of a pack, then `bfc up` again.

Counted from the start of the command to the first step that the resumed child reports, which is beyond its checkpoint;
the claim and the first answer of the API are told beside it. No lease is waited for. What takes the time is the
import of packages, so the CPU seconds that the whole stack had used by then are told too: they say on a busy
machine what the seconds would be on an idle one.
"""

import contextlib
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.stack import ROOT, answers, clean, free_port, wait_until
from benchmarks.timing import Ratio, Result

CLAIM = "After SIGKILL of a whole stack, `bfc up` has its work going on from the checkpoint within 5 seconds."

MOST_SECONDS = 5.0
SPEC = {
    "name": "goes on",
    "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
    "learners": [{"kind": "joint", "width": 8, "batch_size": 32, "steps_per_stage": 1_000_000}],
    "n": 64,
    "dim": 6,
    "seeds": 2,
    "budget": {"test_samples": 64},
}
_BFC = "import sys; from bfc_client.command_line import main; sys.exit(main())"
_LOOK_SECONDS = 0.05
_GIVEN_UP_SECONDS = 120


def measure(repetitions: int) -> Result:
    """One stack, killed again and again in the middle of one pack."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = f"http://127.0.0.1:{(port := free_port())}"
        with _up(folder, port):
            wait_until(lambda: answers(url))
            httpx.post(f"{url}/v1/experiments", json=SPEC, timeout=60).raise_for_status()
            wait_until(lambda: _first(folder, "SELECT checkpoint_step FROM packs") > 0)
        for _ in range(repetitions):
            began = time.monotonic()
            with _up(folder, port) as stack:
                found.append(_resumed(folder, url, stack, began))
                wait_until(lambda: _first(folder, "SELECT checkpoint_step > crash_step FROM packs") > 0)
    bounds = {"progress": MOST_SECONDS}
    return Result(
        seconds={},
        ratios=[
            Ratio(
                f"seconds to {name}",
                tuple(each.seconds[name] for each in found),
                bounds.get(name),
                is_upper=True,
            )
            for name in ("the claim", "progress", "the API's answer")
        ],
        facts={
            "CPU seconds of the stack until progress": ", ".join(f"{each.cpu:.1f}" for each in found),
        },
    )


@dataclass(frozen=True)
class Resumption:
    """Seconds from the command to what is named, and CPU seconds of all processes until then."""

    seconds: dict[str, float]
    cpu: float


def _resumed(folder: Path, url: str, stack: psutil.Process, began: float) -> Resumption:
    fence = _first(folder, "SELECT fence FROM packs")
    facts = {
        "the claim": "SELECT count(*) FROM packs WHERE fence > ?",
        "progress": "SELECT count(*) FROM events WHERE name = 'run.progress' AND fence > ?",
    }
    seconds: dict[str, float] = {}
    cpu = 0.0
    # One client: making one costs more than asking, and the processor's time is what is short here.
    with httpx.Client(trust_env=False) as client:
        while len(seconds) <= len(facts):
            for name, query in facts.items():
                if name not in seconds and _first(folder, query, fence):
                    seconds[name] = time.monotonic() - began
                    cpu = _cpu_seconds(stack)
            if "the API's answer" not in seconds and _answers(client, url):
                seconds["the API's answer"] = time.monotonic() - began
            if time.monotonic() - began > _GIVEN_UP_SECONDS:
                raise TimeoutError(f"only {seconds} within {_GIVEN_UP_SECONDS} seconds")
            time.sleep(_LOOK_SECONDS)
    return Resumption(seconds, cpu)


@contextlib.contextmanager
def _up(folder: Path, port: int) -> Iterator[psutil.Process]:
    """`bfc up`; at the end every process of it is killed at once."""
    settings = {"BFC_CHILD_THREADS": "1", "BFC_CHECKPOINT_INTERVAL": "1", "BFC_LOG_LEVEL": "WARNING"}
    command = [sys.executable, "-c", _BFC, "up", "--data-dir", str(folder), "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=ROOT, env=clean() | settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    stack = psutil.Process(process.pid)
    try:
        yield stack
    finally:
        everything = [stack, *stack.children(recursive=True)]
        for each in everything:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()
        psutil.wait_procs(everything, timeout=30)


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/healthz").is_success
    except httpx.TransportError:
        return False


def _cpu_seconds(stack: psutil.Process) -> float:
    total = 0.0
    for process in [stack, *stack.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _first(folder: Path, query: str, *parameters: int) -> int:
    """The one number of a query; 0 where there is nothing yet."""
    with contextlib.closing(
        sqlite3.connect(f"file:{folder / 'bfc.db'}?mode=ro", uri=True, timeout=30)
    ) as database:
        row = database.execute(query, parameters).fetchone()
    return 0 if row is None or row[0] is None else int(row[0])
