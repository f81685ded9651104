"""``bfc up`` and ``bfc demo`` as processes: they start a stack, end it in order, and leave nothing behind."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import bfc_client

ROOT = Path(__file__).parents[3]
BFC = [sys.executable, "-c", "from bfc_client.command_line import main; main()"]
SMALLEST = ROOT / "examples" / "smallest.yaml"


def environment(**changes):
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("BFC_")}  # noqa: TID251 - a child inherits it
    return inherited | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1"} | changes


@pytest.fixture
def start(tmp_path):
    """Start the command in an empty folder; whatever a test leaves running is ended."""
    started = []
    # As in a terminal: what a shell starts in the background, such as this suite, passes a deaf Ctrl-C on.
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(*arguments, **changes):
        process = subprocess.Popen(
            [*BFC, *map(str, arguments)],
            cwd=tmp_path,
            env=environment(**changes),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=60)
    signal.signal(signal.SIGINT, heard)


def processes_in(folder):
    """Command lines of living processes that name the folder, or write to a file in it."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            files = [file.path for file in process.open_files()]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if process.pid != os.getpid() and any(str(folder) in word for word in (*words, *files)):
            found.append(words)
    return found


def await_line(process, stream, part, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        line = getattr(process, stream).readline()
        if part in line:
            return line
        assert line or process.poll() is None, process.communicate()
    raise AssertionError(f"no line with {part!r}")


def test_up_serves_is_found_from_its_folder_and_stops_in_order(start, tmp_path, monkeypatch):
    up = start("up", "--port", "0", "--data-dir", "stack")
    url = up.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:"), up.communicate()
    assert up.stdout.readline().strip() == f"{url}/docs"

    submit = start("submit", "-f", SMALLEST, "--watch", BFC_DATA_DIR="stack")
    out, err = submit.communicate(timeout=180)
    assert submit.returncode == 0, err
    assert "matched_compute_control" in out
    assert out.strip().endswith("succeeded")
    assert "8/8 runs finished" in err

    doctor = start("doctor", "--data-dir", "stack", "--json")
    findings = json.loads(doctor.communicate(timeout=90)[0])
    assert doctor.returncode == 0, findings
    assert {"server: database", "server: broker", "server: workers"} <= {
        finding["subject"] for finding in findings
    }

    second = start("up", "--port", "0", "--data-dir", "stack")
    _, err = second.communicate(timeout=60)
    assert second.returncode == 4
    assert url in err

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BFC_URL", raising=False)
    monkeypatch.setenv("BFC_DATA_DIR", "stack")
    with bfc_client.connect() as client:
        assert client.url == url
        assert len(next(client.experiments.list()).results()) == 8

    up.send_signal(signal.SIGINT)
    _, err = up.communicate(timeout=60)
    assert up.returncode == 0, err
    assert processes_in(tmp_path) == []
    assert not (tmp_path / "stack" / "embedded.json").exists()


def test_a_taken_port_is_said_before_anything_starts(start, tmp_path, api):
    port = api.rsplit(":", 1)[1]
    up = start("up", "--port", port, "--data-dir", "stack")
    _, err = up.communicate(timeout=60)
    assert up.returncode == 4
    assert "--port" in err
    assert processes_in(tmp_path) == []


def test_the_demo_ends_with_table_figure_and_rows_and_leaves_no_process(start, tmp_path):
    demo = start("demo", "-f", SMALLEST)
    out, err = demo.communicate(timeout=240)
    # Numbers of the smallest experiment have no meaning: the claims fail, and the exit code says so.
    assert demo.returncode == 5, err
    assert "✓ every run finished" in out
    assert "✗ algorithm_1 learns the target" in out
    assert "backward gain" in out
    figure = tmp_path / "demo-output" / "comparison.svg"
    assert figure.read_text().startswith("<svg")
    assert str(figure.relative_to(tmp_path)) in out
    with (tmp_path / "demo-output" / "results.csv").open() as rows:
        assert len(list(csv.DictReader(rows))) == 8
    assert processes_in(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process(start, tmp_path, number):
    long = SMALLEST.read_text().replace("steps_per_stage: 20", "steps_per_stage: 500000")
    (tmp_path / "long.yaml").write_text(long)
    demo = start("demo", "-f", "long.yaml")
    await_line(demo, "stderr", "running")
    demo.send_signal(number)
    demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert processes_in(tmp_path) == []


def test_interrupting_watch_leaves_the_work_running(start, tmp_path):
    up = start("up", "--port", "0", "--data-dir", "stack")
    url = up.stdout.readline().strip()
    long = SMALLEST.read_text().replace("steps_per_stage: 20", "steps_per_stage: 500000")
    (tmp_path / "long.yaml").write_text(long)
    watch = start("submit", "-f", "long.yaml", "--watch", BFC_URL=url)
    await_line(watch, "stderr", "running")
    watch.send_signal(signal.SIGINT)
    _, err = watch.communicate(timeout=60)
    assert watch.returncode == 130
    assert "the work goes on" in err
    with bfc_client.connect(url) as client:
        experiment = next(client.experiments.list())
        assert experiment.status == "running"
        assert experiment.cancel().wait(timeout=60).status == "cancelled"
