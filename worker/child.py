"""The process that trains one pack. It knows no database and no broker, only a job and two pipes.

Up go JSON documents ``{"kind": "progress" | "measured" | "checkpoint" | "stopped" | "finished" | "interrupted" |
"exhausted" | "error", …}``; down come ``{"kind": "begin"}``, as soon as the pack before this one is done, then
``{"kind": "cancel", "members": [...]}`` and ``{"kind": "stop"}``. When the worker dies its end of the control pipe
closes and this process ends at once: it never outlives its owner.
"""

import contextlib
import faulthandler
import hashlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from threadpoolctl import ThreadpoolController

from bfc_core.checkpoint import CheckpointFolder
from bfc_core.errors import BfcError, PackInterrupted, ResourceLimitExceeded
from bfc_core.kernels.shared import EigendecompositionFolder
from bfc_core.run import execute_pack
from bfc_core.specs import Measurement, Point, RunSpec
from worker.cause import cause_of, without_paths
from worker.child_job import ChildJob
from worker.peak_memory import PeakMemory

_ORPHANED = 86
_LIBRARIES = ThreadpoolController()
"""Of linear algebra; looked for once, where the helper process imports this, and not in every child."""

_LEAST_PROGRESS_SECONDS = 0.1
_POINTS = TypeAdapter(list[Point])


class PipeObserver:
    """Reports upwards; answers from what came down. Called from the training thread."""

    def __init__(self, lines: Connection, crash_point: str | None) -> None:
        self._lines = lines
        self._lock = threading.Lock()
        self._crash_point = crash_point
        self._cancelled: frozenset[int] = frozenset()
        self._acknowledged: frozenset[int] = frozenset()
        self._is_stopping = False
        self._last_progress = 0.0

    def send(self, kind: str, **fields: Any) -> None:  # noqa: ANN401 - JSON values
        """Write one document."""
        with self._lock:
            self._lines.send_bytes(json.dumps({"kind": kind, **fields}, allow_nan=False).encode())

    def listen(self, control: Connection) -> None:
        """Follow what comes down until the worker is gone; then end this process."""
        try:
            while True:
                message = json.loads(control.recv_bytes())
                if message["kind"] == "cancel":
                    self._cancelled |= frozenset(message["members"])
                else:
                    self._is_stopping = True
        except (EOFError, OSError):
            os._exit(_ORPHANED)

    def ask_to_stop(self, *_signal: object) -> None:
        """SIGTERM means the same as the line."""
        self._is_stopping = True

    def crash_at(self, point: str) -> None:
        """Die here if a test asked for it."""
        if point == self._crash_point:
            os.kill(os.getpid(), signal.SIGKILL)
        if point == "in_training" and self._crash_point == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if point == "in_training" and self._crash_point == "raise":
            raise RuntimeError("a defect that a test asked for")

    def progressed(self, step: int, steps: int) -> None:
        """Send it, a few times a second."""
        now = time.monotonic()
        if now - self._last_progress >= _LEAST_PROGRESS_SECONDS or step >= steps:
            self._last_progress = now
            self.send("progress", step=step, steps=steps)
        self.crash_at("in_training")

    def measured(self, run: int, measurements: Sequence[Measurement]) -> None:
        """Send them: some dozens at a time, thousands in a pack, so pydantic writes the JSON by itself."""
        text = _POINTS.dump_json([measurement.point for measurement in measurements])
        with self._lock:
            self._lines.send_bytes(b'{"kind":"measured","member":%d,"points":%b}' % (run, text))

    def cancelled(self) -> frozenset[int]:
        """Members to be masked; once the training has seen them, the worker may call them stopped."""
        cancelled = self._cancelled
        if new := cancelled - self._acknowledged:
            self._acknowledged = cancelled
            self.send("stopped", members=sorted(new))
        return cancelled

    def stop_requested(self) -> bool:
        """Whether to save and stop."""
        return self._is_stopping


def run(job_text: str, control: Connection, lines: Connection) -> None:
    """Execute one job; the entry point of the process."""
    job = ChildJob.model_validate_json(job_text)
    _own_group_and_log(Path(job.log))
    observer = PipeObserver(lines, job.crash_point)
    signal.signal(signal.SIGTERM, observer.ask_to_stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(job.threads)
    try:
        with _LIBRARIES.limit(limits=job.threads):
            specs = [RunSpec.model_validate(spec) for spec in job.specs]
            _wait_to_begin(control)
            threading.Thread(target=observer.listen, args=(control,), name="control", daemon=True).start()
            _train(job, specs, observer)
    except PackInterrupted:
        observer.send("interrupted")
    except (MemoryError, OSError) as error:
        # Of this machine at this moment, not of the spec: try again, somewhere else or later.
        traceback.print_exc()
        sys.stderr.flush()
        with contextlib.suppress(OSError):
            observer.send("exhausted", text=cause_of(error))
        os._exit(1)
    except ResourceLimitExceeded as error:
        observer.send("error", code="resource_limit_exceeded", text=without_paths(str(error)))
    except BfcError as error:
        observer.send("error", code="refused", text=without_paths(str(error)))
    except Exception as error:  # noqa: BLE001 - the one place where a defect of a run becomes an answer
        traceback.print_exc()
        observer.send("error", code="internal_error", text=f"a defect of this program: {cause_of(error)}")
    lines.close()


def _wait_to_begin(control: Connection) -> None:
    """Return at the first line that comes down, which is ``begin``; without a worker there is none."""
    try:
        control.recv_bytes()
    except (EOFError, OSError):
        os._exit(_ORPHANED)


def _train(job: ChildJob, specs: list[RunSpec], observer: PipeObserver) -> None:
    checkpoints = CheckpointFolder(
        Path(job.folder),
        earlier=tuple(Path(folder) for folder in job.earlier),
        interval_seconds=job.checkpoint_interval_seconds,
    )
    checkpoints.saved = lambda step, path, digest: observer.send(
        "checkpoint", step=step, path=str(path), sha256=digest
    )
    checkpoints.saving = lambda path: observer.crash_at("while_saving")  # noqa: ARG005
    peak = PeakMemory(job.device)
    is_cached = job.kernel_cache is not None and job.kernel_cache_limit_bytes > 0
    kernel_cache = (
        EigendecompositionFolder(Path(job.kernel_cache or ""), job.kernel_cache_limit_bytes)
        if is_cached
        else None
    )
    reports = execute_pack(
        specs,
        observer,
        job.device,
        checkpoints,
        job.pack_memory_limit_bytes,
        kernel_cache,
        artifacts=Path(job.artifacts),
        data_sets=None if job.data_sets is None else Path(job.data_sets),
        cuda_graphs=job.cuda_graphs,
    )
    observer.crash_at("before_result_file")
    _write_result(Path(job.result), [report.model_dump_json() for report in reports], peak.bytes())
    observer.crash_at("after_result_file")
    observer.send("finished")


def _write_result(file: Path, reports: list[str], peak_memory_bytes: int) -> None:
    digest = hashlib.sha256("\n".join(reports).encode()).hexdigest()
    temporary = file.with_name(f".{file.name}.tmp")
    with temporary.open("w") as stream:
        json.dump({"reports": reports, "sha256": digest, "peak_memory_bytes": peak_memory_bytes}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)


def _own_group_and_log(log: Path) -> None:
    os.setpgid(0, 0)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    faulthandler.enable()
