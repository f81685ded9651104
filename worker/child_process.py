"""The worker's end of a child: start it, read its lines, tell it things, end it. Free of torch."""

import atexit
import contextlib
import importlib
import json
import logging
import multiprocessing
import os
import signal
import threading
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

import psutil
from pydantic_core import from_json

from worker.child_job import ChildJob

logger = logging.getLogger(__name__)

_PRELOADED = "worker.child"


class ChildStarter:
    """Starts children; one per worker process, used by its threads.

    With ``forkserver`` a helper process imports torch once and every child is forked from it in milliseconds;
    the worker itself has threads and must not fork. A few children are started before there is work for them, so that
    a pack does not wait even for that; one executes one pack and ends.

    Args:
        method: how a process starts.
        waiting: how many children wait for their pack.
    """

    def __init__(self, method: Literal["forkserver", "spawn"], waiting: int = 1) -> None:
        self._method = method
        self._context: Any = multiprocessing.get_context(method)
        if method == "forkserver":
            # The second: every child runs the worker's main module once more, whose imports shall be there.
            self._context.set_forkserver_preload([_PRELOADED, "worker.__main__"])
        self._most_waiting = waiting
        self._waiting: list[ChildProcess] = []
        self._lock = threading.Lock()
        self._is_stopped = False
        # multiprocessing waits for its children when the interpreter ends, and those wait for us.
        atexit.register(self.stop)

    def warm(self) -> None:
        """Start the helper process and the waiting children now: no pack waits for the import of torch."""
        if self._method == "forkserver":
            forkserver.ensure_running()
        self._refill_beside()

    def start(self, job: ChildJob) -> "ChildProcess":
        """Put a child on ``job``: one that waits, or a new one. It computes once it is told to ``begin``.

        Raises:
            OSError: no process can be started, or it ended at once.
        """
        text = job.model_dump_json()
        child = self._take_waiting(text)
        if child is None:
            child = self._new()
            child.send(text)
        self._refill_beside()
        return child

    def stop(self) -> None:
        """End the children that wait."""
        with self._lock:
            self._is_stopped = True
            waiting, self._waiting = self._waiting, []
        for child in waiting:
            child.close()

    def _take_waiting(self, job: str) -> "ChildProcess | None":
        while True:
            with self._lock:
                if not self._waiting:
                    return None
                child = self._waiting.pop(0)
            try:
                child.send(job)
            except OSError:  # somebody has ended it
                child.close()
            else:
                return child

    def _refill_beside(self) -> None:
        threading.Thread(target=self._refill, name="children", daemon=True).start()

    def _refill(self) -> None:
        while True:
            with self._lock:
                if self._is_stopped or len(self._waiting) >= self._most_waiting:
                    return
            try:
                child = self._new()
            except OSError as error:
                logger.warning("child.not_started error=%r", error)
                return
            with self._lock:
                is_wanted = not self._is_stopped and len(self._waiting) < self._most_waiting
                if is_wanted:
                    self._waiting.append(child)
            if not is_wanted:
                child.close()

    def _new(self) -> "ChildProcess":
        control_read, control_write = self._context.Pipe(duplex=False)
        lines_read, lines_write = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_enter, args=(control_read, lines_write), daemon=False)
        process.start()
        # Only the child holds these ends now, so that either side sees the other's death.
        control_read.close()
        lines_write.close()
        return ChildProcess(process, control_write, lines_read)


class ChildProcess:
    """A running child. Used by one thread at a time."""

    def __init__(self, process: Any, control: Connection, lines: Connection) -> None:  # noqa: ANN401 - by context
        self._process = process
        self._control = control
        self._lines = lines
        self._is_open = True
        self._is_closed = False
        self._code: int | None = None

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
                documents.append(from_json(self._lines.recv_bytes()))
            return documents
        self._is_open = False
        return documents

    @property
    def is_over(self) -> bool:
        """Whether nothing more can come: its end of the pipe is closed."""
        return not self._is_open

    def begin(self) -> None:
        """Let it compute.

        Raises:
            OSError: it has ended.
        """
        self._control.send_bytes(json.dumps({"kind": "begin"}).encode())

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

    def send(self, job: str) -> None:
        """Give it its job.

        Raises:
            OSError: it has ended.
        """
        self._control.send_bytes(job.encode())

    def close(self) -> int | None:
        """Wait for the end, killing what does not end by itself; its exit code. One that waits for a job ends."""
        if self._is_closed:
            return self._code
        self._is_closed = True
        self._control.close()
        self._process.join(timeout=5)
        if self._process.exitcode is None:
            self.kill()
            self._process.join(timeout=5)
        self._code = self._process.exitcode
        self._lines.close()
        if self._code is not None:
            self._process.close()
        return self._code


def _enter(control: Connection, lines: Connection) -> None:
    # By name: importing it here at the top would load torch into the worker.
    child = importlib.import_module(_PRELOADED)
    try:
        job = control.recv_bytes()
    except (EOFError, OSError):
        os._exit(0)  # nothing was begun, and the end of an interpreter with torch takes a while
    child.run(job.decode(), control, lines)
