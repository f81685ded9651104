"""A stack of one's own: ``python -m service.embedded`` as a child process, started, awaited and stopped.

The supervisor is started by name: the client speaks HTTP and never imports the service.
"""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import BinaryIO, Self

import httpx

from bfc_client.command_line.output import CommandRefused, ExitCode
from bfc_client.discovery import url_of_stack
from bfc_client.settings import environment_of_a_stack

READY_TIMEOUT_SECONDS = 90.0
STOP_TIMEOUT_SECONDS = 20.0
POLL_SECONDS = 0.1
LOG_LINES_SHOWN = 15
DEFAULT_CONCURRENCY = 2


class Stack:
    """One supervisor with its API and worker, on a folder. Leaving the context stops all of them."""

    def __init__(self, data_dir: Path, port: int, concurrency: int = DEFAULT_CONCURRENCY) -> None:
        self.data_dir = data_dir
        self._concurrency = concurrency
        self.log = data_dir / "stack.log"
        self._port = port
        self.url = f"http://127.0.0.1:{port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            # Every process of the stack inherits this open file, and with it the lock: whoever can take
            # the lock knows that the last of them is gone.
            if not _locked(log):
                raise CommandRefused(
                    f"processes of a stack in {self.data_dir} are still at work; try again when they have ended",
                    ExitCode.CONFLICT,
                )
            # A session of its own: Ctrl-C reaches this process alone, which then stops the stack in order.
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter and a module of ours
                [
                    sys.executable,
                    "-m",
                    "service.embedded",
                    "--data-dir",
                    str(self.data_dir),
                    "--port",
                    str(self._port),
                    "--concurrency",
                    str(self._concurrency),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment_of_a_stack(),
                start_new_session=True,
            )
        try:
            self._await_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask the supervisor to stop and wait for the last process of the stack.

        A second Ctrl-C, or a supervisor that hangs, ends it at once.
        """
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_SECONDS)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._process = None
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        with self.log.open("ab") as log:
            while not _locked(log) and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)

    def wait(self) -> int:
        """Return when the supervisor ends; its exit status."""
        assert self._process is not None, "only a started stack can be waited for"
        return self._process.wait()

    def _await_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_SECONDS
        assert self._process is not None
        with httpx.Client(trust_env=False, timeout=5.0) as http:
            while time.monotonic() < deadline:
                if self._process.poll() is not None:
                    raise CommandRefused(
                        f"the stack ended while it started (status {self._process.returncode}).\n{self._last_lines()}"
                    )
                with contextlib.suppress(httpx.TransportError):
                    if http.get(f"{self.url}/readyz").is_success:
                        return
                time.sleep(POLL_SECONDS)
        raise CommandRefused(
            f"the stack was not ready within {READY_TIMEOUT_SECONDS:.0f} s.\n{self._last_lines()}",
            ExitCode.UNREACHABLE,
        )

    def _last_lines(self) -> str:
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        shown = "\n".join(f"  | {line}" for line in lines[-LOG_LINES_SHOWN:])
        return f"{shown}\n  → the whole log: {self.log}"


def _locked(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def refuse_a_second_stack(data_dir: Path) -> None:
    """One stack a folder.

    Raises:
        CommandRefused: the folder's stack answers.
    """
    url = url_of_stack(data_dir)
    if url is None:
        return
    with contextlib.suppress(httpx.TransportError), httpx.Client(trust_env=False, timeout=5.0) as http:
        http.get(f"{url}/healthz")
        raise CommandRefused(f"a stack runs in {data_dir} already: {url}", ExitCode.CONFLICT)


def port_for_a_stack(port: int) -> int:
    """The port itself, or a free one for 0.

    Raises:
        CommandRefused: another process listens there.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise CommandRefused(
                f"port {port} is taken by another process; choose one with --port (0: any free one)",
                ExitCode.CONFLICT,
            ) from error
        chosen: int = listener.getsockname()[1]
        return chosen


@contextlib.contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """SIGTERM and a closed terminal end the command as Ctrl-C does: the stack is stopped on the way out."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
