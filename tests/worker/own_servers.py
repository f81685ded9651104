"""Servers of a test's own, to be frozen, killed and started again: Redis, RabbitMQ, PostgreSQL."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from kombu import Connection
from kombu.exceptions import KombuError

DEBIAN_RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""The command proper; the one on Debian's path changes the user and with it the node's folders."""
PATIENCE_SECONDS = 90


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class OwnServer:
    """A server process in a session of its own; ``kill`` takes all of it with SIGKILL."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen | None = None

    def _run(self, command: list[str], **options: object) -> None:
        with (self.folder / "output.log").open("ab") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=output, start_new_session=True, **options
            )

    def _wait(self, answers: Callable[[], bool], again: Callable[[], None] | None = None) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not answers():
            if self.process.poll() is not None and again is not None:
                time.sleep(0.1)
                again()
            if time.monotonic() > deadline or (again is None and self.process.poll() is not None):
                pytest.fail(f"the server does not start\n{self.output()}")
            time.sleep(0.05)

    def output(self) -> str:
        return (self.folder / "output.log").read_text(errors="replace")

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self.process.wait()


class OwnRedis(OwnServer):
    """Redis without persistence: a restart forgets every message."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        if shutil.which("redis-server") is None:
            pytest.skip("no redis-server")
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self, *options: str) -> None:
        self._run(
            ["redis-server", "--port", str(self.port), "--save", "", "--dir", str(self.folder), *options]
        )
        self._wait(self._answers)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


class OwnRabbitMQ(OwnServer):
    """One node with its own name, cookie and folders. Its queues outlive a restart.

    Args:
        consumer_timeout_seconds: how long a message may stay unacknowledged. Set for the server, not the queue:
            a queue's own limit is read by 3.12 and newer only.
    """

    def __init__(self, folder: Path, consumer_timeout_seconds: int | None = None) -> None:
        super().__init__(folder)
        found = str(DEBIAN_RABBITMQ) if DEBIAN_RABBITMQ.exists() else shutil.which("rabbitmq-server")
        if found is None:
            pytest.skip("no rabbitmq-server")
        self._command = found
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        terms = ["{channel_tick_interval, 500}"]
        if consumer_timeout_seconds is not None:
            terms.append(f"{{consumer_timeout, {consumer_timeout_seconds * 1000}}}")
        (folder / "advanced.config").write_text(f"[{{rabbit, [{', '.join(terms)}]}}].\n")
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.local = 127.0.0.1:{self.port}\nlog.console = true\nlog.console.level = info\n"
        )
        (folder / "enabled_plugins").write_text("[].\n")
        self.start()

    def start(self) -> None:
        places = {
            "HOME": self.folder,
            "RABBITMQ_NODENAME": f"bfc_test_{self.port}@localhost",
            "RABBITMQ_DIST_PORT": free_port(),
            "RABBITMQ_MNESIA_BASE": self.folder / "mnesia",
            "RABBITMQ_LOG_BASE": self.folder / "log",
            "RABBITMQ_PID_FILE": self.folder / "pid",
            "RABBITMQ_CONFIG_FILE": self.folder / "rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": self.folder / "advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self.folder / "enabled_plugins",
            "RABBITMQ_CONF_ENV_FILE": self.folder / "no.conf",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        inherited = dict(os.environ)  # noqa: TID251 - what a process inherits
        self._run([self._command], env=inherited | {name: str(value) for name, value in places.items()})
        # The port mapper may still hold the name of a node that was just killed.
        self._wait(self._answers, again=self.start)

    def _answers(self) -> bool:
        try:
            with Connection(self.url, connect_timeout=2) as connection:
                connection.connect()
        except (OSError, KombuError):
            return False
        return True


class OwnPostgres(OwnServer):
    """A cluster of its own, with the settings that servers have (fsync on)."""

    def __init__(self) -> None:
        binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        found = shutil.which("initdb") or next((str(b / "initdb") for b in binaries), None)
        if found is None:
            pytest.skip("no initdb")
        self._binaries = Path(found).resolve().parent
        # It refuses to run as root, and who is not root cannot enter the folders of a test that root runs.
        self._user = "postgres" if os.geteuid() == 0 else None
        super().__init__(Path(tempfile.mkdtemp(prefix="bfc-postgres-")))
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        self._cluster = self.folder / "cluster"
        subprocess.run(
            [self._binaries / "initdb", "-D", self._cluster, "-U", "postgres", "-A", "trust", "-N"],
            check=True, capture_output=True, user=self._user, cwd=self.folder,
        )  # fmt: skip
        self.url = f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"
        self.start()

    def start(self) -> None:
        self._run(
            [
                str(self._binaries / "postgres"), "-D", str(self._cluster), "-p", str(self.port),
                "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.folder}",
            ],
            user=self._user, cwd=self.folder,
        )  # fmt: skip
        # While orphans of the killed postmaster still hold its memory, a new one refuses to start.
        self._wait(self._answers, again=self.start)

    def kill_postmaster(self) -> None:
        """SIGKILL to the postmaster alone; its processes notice and end."""
        self.process.kill()
        self.process.wait()

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            psycopg.connect(
                host="127.0.0.1", port=self.port, user="postgres", dbname="postgres", connect_timeout=2
            ).close()
        except psycopg.OperationalError:
            return False
        return True
