"""``python -m service.embedded --data-dir DIR --port PORT``: the whole stack in one folder, without any server.

A supervisor holds the folder's lock, migrates the SQLite database, starts the API and one worker, starts again
what ends unasked, and stops both in order. Loopback only. The children hold a pipe to the supervisor: they never
outlive it. Database, broker and the lease numbers differ from a server deployment, nothing else.

The worker starts before the database is migrated, since its helper process imports torch, which takes longest
(docs/decisions/0057). A second pipe, closed after the migration, lets it go on. Where there is nothing to migrate,
which a look into the file tells, nobody waits (docs/decisions/0064).
"""

import argparse
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import psutil
from filelock import FileLock, Timeout

from migrations.newest import is_up_to_date

logger = logging.getLogger("service.embedded")

STATE_FILE = "embedded.json"
ALREADY_RUNNING = 3
REFUSED = 2

_HOST = "127.0.0.1"
_STOP_SECONDS = 15.0
_LONGEST_PAUSE_SECONDS = 30.0
_STEADY_SECONDS = 60.0
_LOOK_SECONDS = 0.1

_NETWORK_DISKS = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smbfs",
        "smb3",
        "9p",
        "afs",
        "ceph",
        "lustre",
        "glusterfs",
        "fuse.sshfs",
        "fuse.glusterfs",
    }
)

_PACE = {
    "BFC_LEASE": "20",
    "BFC_HEARTBEAT_INTERVAL": "5",
    "BFC_RECONCILE_INTERVAL": "1",
    "BFC_REPUBLISH_FIRST": "2",
    "BFC_REPUBLISH_CAP": "60",
    "BFC_CANCEL_GRACE": "5",
    "BFC_DRAIN_GRACE": "8",
    "BFC_CONTROL_INTERVAL": "0.25",
    "BFC_PROGRESS_INTERVAL": "0.5",
}
"""How a stack of one machine differs from servers; the environment may say otherwise."""


class StackRefusedError(Exception):
    """The stack cannot start here; the message says why."""


class Child:
    """One process of the stack, started again with growing pauses when it ends unasked."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], pipes: Sequence[int]
    ) -> None:
        self._name = name
        self._command = command
        self._environment = environment
        self._pipes = pipes
        self._failures = 0
        self._start_at = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def look(self) -> None:
        """Start it where it is due; note an end that nobody asked for."""
        now = time.monotonic()
        if self._process is None:
            if now >= self._start_at:
                self._start()
            return
        code = self._process.poll()
        if code is None:
            return
        if now - self._started > _STEADY_SECONDS:
            self._failures = 0
        pause = min(_LONGEST_PAUSE_SECONDS, 0.25 * 2**self._failures)
        self._failures += 1
        self._start_at = now + pause
        self._process = None
        logger.warning("stack.child_ended name=%s code=%s restart_in=%.2fs", self._name, code, pause)

    def ask_to_stop(self) -> None:
        """Begin a clean stop."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait(self, deadline: float) -> None:
        """Wait for the end, by force after the deadline."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            logger.warning("stack.child_killed name=%s", self._name)
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter and modules of ours
            self._command,
            env=dict(self._environment),
            stdin=subprocess.DEVNULL,
            pass_fds=self._pipes,
            # Ctrl-C reaches the supervisor alone, which then stops its children in order.
            start_new_session=True,
        )
        self._started = time.monotonic()
        logger.info("stack.child_started name=%s pid=%s", self._name, self._process.pid)


def run(data_dir: Path, port: int, concurrency: int) -> None:
    """Keep the stack running until SIGINT or SIGTERM.

    Raises:
        StackRefusedError: another stack runs in this folder, the port is taken or the disk is a network disk.
    """
    data_dir = data_dir.absolute()
    data_dir.mkdir(parents=True, exist_ok=True)
    refuse_network_disk(data_dir)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    lock = FileLock(data_dir / "embedded.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise AlreadyRunningError(data_dir) from None
    with lock:
        port = _free_port(port)
        database = data_dir / "bfc.db"
        # Of the characters of a path these two mean something else in an address.
        path = str(database).replace("%", "%25").replace("?", "%3F")
        environment = _environment(data_dir, f"sqlite:///{path}", concurrency)
        _supervise(data_dir, port, database, environment, stopping)


class AlreadyRunningError(StackRefusedError):
    """A second stack on the same folder."""

    def __init__(self, data_dir: Path) -> None:
        try:
            state = json.loads((data_dir / STATE_FILE).read_text())
            where = f" at {state['url']} (process {state['pid']})"
        except (OSError, ValueError, KeyError, TypeError):
            where = ", still starting or stopping"
        super().__init__(f"a stack runs in {data_dir} already{where}")


def refuse_network_disk(folder: Path) -> None:
    """SQLite's locks and shared memory do not work over a network.

    Raises:
        StackRefusedError: the folder lies on such a disk, as far as the system tells.
    """
    mounts = [
        (len(mount.mountpoint), mount.fstype)
        for mount in psutil.disk_partitions(all=True)
        if folder.resolve().is_relative_to(mount.mountpoint)
    ]
    kind = max(mounts)[1] if mounts else ""
    if kind in _NETWORK_DISKS:
        raise StackRefusedError(
            f"{folder} lies on a network disk ({kind}), where SQLite loses data; choose a local folder"
        )


def _supervise(
    data_dir: Path,
    port: int,
    database: Path,
    environment: Mapping[str, str],
    stopping: threading.Event,
) -> None:
    with ExitStack() as pipes:
        alive, _ = _pipe(pipes)
        migrated, migrating = _pipe(pipes)
        environment = {**environment, "BFC_PARENT_PIPE": str(alive)}
        waiting = {**environment, "BFC_START_PIPE": str(migrated)}
        python = [sys.executable, "-m"]
        worker = Child("worker", [*python, "worker"], waiting, (alive, migrated))
        api = Child("api", [*python, "service", "--host", _HOST, "--port", str(port)], environment, (alive,))
        children = (worker, api)
        state = data_dir / STATE_FILE
        try:
            if is_up_to_date(database):
                migrating.close()
                worker.look()
            else:
                worker.look()
                _migrate(environment["BFC_DATABASE_URL"])
                migrating.close()
            api.look()
            _write_state(state, f"http://{_HOST}:{port}")
            logger.info("stack.started url=http://%s:%s data_dir=%s", _HOST, port, data_dir)
            while not stopping.wait(_LOOK_SECONDS):
                for child in children:
                    child.look()
        finally:
            logger.info("stack.stopping")
            for child in children:
                child.ask_to_stop()
            deadline = time.monotonic() + _STOP_SECONDS
            for child in children:
                child.wait(deadline)
            state.unlink(missing_ok=True)
    logger.info("stack.stopped")


def _pipe(pipes: ExitStack) -> tuple[int, BinaryIO]:
    """A pipe that children see closed when this process closes it or dies: its end for reading, and ours."""
    reading, writing = os.pipe()
    pipes.callback(os.close, reading)
    return reading, pipes.enter_context(os.fdopen(writing, "wb"))


def _migrate(database_url: str) -> None:
    # Only now: the worker's imports and these go on beside each other.
    from sqlalchemy.exc import DatabaseError  # noqa: PLC0415 - docs/decisions/0057

    from migrations.upgrade import upgrade  # noqa: PLC0415 - docs/decisions/0057
    from service.database import open_database  # noqa: PLC0415 - docs/decisions/0057

    database = open_database(database_url)
    try:
        upgrade(database)
    except DatabaseError as error:
        raise StackRefusedError(
            f"the database {database.engine.url.database} cannot be used: {error.orig}"
        ) from error
    finally:
        database.dispose()


def _environment(data_dir: Path, database_url: str, concurrency: int) -> dict[str, str]:
    return {
        **_PACE,
        **os.environ,  # noqa: TID251 - passed on to the children, who read their settings from it
        "BFC_DATA_DIR": str(data_dir),
        "BFC_DATABASE_URL": database_url,
        "BFC_BROKER_URL": "filesystem://",
        "BFC_CONCURRENCY": str(concurrency),
    }


def _free_port(port: int) -> int:
    """The port itself, or any free one for 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            raise StackRefusedError(
                f"port {port} is taken by another process; choose one with --port"
            ) from None
        chosen: int = probe.getsockname()[1]
        return chosen


def _write_state(file: Path, url: str) -> None:
    state = {"url": url, "pid": os.getpid(), "started_at": datetime.now(UTC).isoformat()}
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(state))
    temporary.replace(file)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run; 0 after a clean stop."""
    parser = argparse.ArgumentParser(prog="python -m service.embedded", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--port", type=int, default=8000, help="0 chooses a free one")
    parser.add_argument("--concurrency", type=int, default=2, help="packs at a time")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        run(given.data_dir, given.port, given.concurrency)
    except AlreadyRunningError as error:
        sys.stderr.write(f"{error}\n")
        return ALREADY_RUNNING
    except StackRefusedError as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    except OSError as error:
        # A file in the folder's place, a disk that is full or read-only: nothing that a trace would explain better.
        sys.stderr.write(f"no stack in {given.data_dir}: {error}\n")
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
