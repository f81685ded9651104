"""The worker's end of a child: start it, read its lines, tell it things, end it. Free of torch."""

import contextlib
import importlib
import json
import multiprocessing
import os
import signal
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

import psutil

from worker.child_job import ChildJob

_PRELOADED = "worker.child"


class ChildStarter:
    """Starts children; one per worker process.

    With ``forkserver`` a helper process imports torch once and every child is forked from it in milliseconds;
    the worker itself has threads and must not fork.
    """

    def __init__(self, method: Literal["forkserver", "spawn"]) -> None:
        self._method = method
        self._context: Any = multiprocessing.get_context(method)
        if method == "forkserver":
            self._context.set_forkserver_preload([_PRELOADED])

    def warm(self) -> None:
        """Start the helper process now, so that the first pack does not wait for the import of torch."""
        if self._method == "forkserver":
            forkserver.ensure_running()

    def start(self, job: ChildJob) -> "ChildProcess":
        """Start a child on ``job``."""
        control_read, control_write = self._context.Pipe(duplex=False)
        lines_read, lines_write = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_enter, args=(job.model_dump_json(), control_read, lines_write), daemon=False
        )
        process.start()
        # Only the child holds these ends now, so that either side sees the other's death.
        control_read.close()
        lines_write.close()
        return ChildProcess(process, control_write, lines_read)


class ChildProcess:
    """A running child. Used by one thread."""

    def __init__(self, process: Any, control: Connection, lines: Connection) -> None:  # noqa: ANN401 - by context
        self._process = process
        self._control = control
        self._lines = lines
        self._is_open = True

    @property
    def pid(self) -> int:
        """Process id, which is also its group's."""
        return int(self._process.pid)

    def read(self, timeout_seconds: float) -> list[dict[str, Any]]:
        """Documents that have arrived; waits up to the timeout for the first."""
        documents: list[dict[str, Any]] = []
        if not self._is_open:
            return documents
        with contextlib.suppress(EOFError, OSError):
            while wait([self._lines], 0 if documents else timeout_seconds):
                documents.append(json.loads(self._lines.recv_bytes()))
            return documents
        self._is_open = False
        return documents

    @property
    def is_over(self) -> bool:
        """Whether nothing more can come: its end of the pipe is closed."""
        return not self._is_open

    def tell(self, kind: str, **fields: Any) -> None:  # noqa: ANN401 - JSON values
        """Send a document down; a dead child is none's business here."""
        with contextlib.suppress(OSError):
            self._control.send_bytes(json.dumps({"kind": kind, **fields}).encode())

    def terminate(self) -> None:
        """Ask the child to save and stop."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End the whole group at once."""
        for end in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                end(self.pid, signal.SIGKILL)

    def resident_bytes(self) -> int:
        """Memory that the child holds."""
        with contextlib.suppress(psutil.Error):
            return int(psutil.Process(self.pid).memory_info().rss)
        return 0

    def close(self) -> int | None:
        """Wait for the end, killing what does not end by itself; its exit code."""
        self._process.join(timeout=5)
        if self._process.exitcode is None:
            self.kill()
            self._process.join(timeout=5)
        code: int | None = self._process.exitcode
        self._control.close()
        self._lines.close()
        if code is not None:
            self._process.close()
        return code


def _enter(job: str, control: Connection, lines: Connection) -> None:
    # By name: importing it here at the top would load torch into the worker.
    importlib.import_module(_PRELOADED).run(job, control, lines)
