"""Deployments for the comparisons: the processes that a deployment runs, on databases and queues of their own."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from kombu import Connection
from redis import Redis
from sqlalchemy import create_engine, text

ROOT = Path(__file__).parent.parent

EMBEDDED = "SQLite, files"
SERVERS = {"PostgreSQL": 5432, "Redis": 6379, "RabbitMQ": 5672}
_POSTGRES = "postgresql+psycopg://postgres@127.0.0.1:5432"
_BROKERS = {"Redis": "redis://127.0.0.1:6379/0", "RabbitMQ": "amqp://guest:guest@127.0.0.1:5672//"}


@dataclass(frozen=True)
class Stack:
    """A running deployment."""

    name: str
    url: str

    def post(self, body: dict[str, Any], path: str = "/v1/experiments", **parameters: bool) -> dict[str, Any]:
        """Submit an experiment or a search; its answer."""
        answer = httpx.post(f"{self.url}{path}", json=body, params=parameters, timeout=300)
        if answer.is_error:
            raise RuntimeError(answer.text)
        return dict(answer.json())

    def wait_for(self, experiment_id: str, seconds: float = 600) -> dict[str, Any]:
        """The experiment once it has ended."""
        deadline = time.monotonic() + seconds
        with httpx.Client(timeout=90) as client:
            while time.monotonic() < deadline:
                found: dict[str, Any] = client.get(
                    f"{self.url}/v1/experiments/{experiment_id}", params={"wait": 30}
                ).json()
                if found["finished_at"] is not None:
                    return found
        raise TimeoutError(f"{experiment_id} has not ended within {seconds} s")

    def seconds_of(self, spec: dict[str, Any]) -> float:
        """Wall seconds from submitting an experiment to having read that it has succeeded."""
        began = time.monotonic()
        found = self.wait_for(self.post(spec)["id"])
        seconds = time.monotonic() - began
        if found["runs"]["succeeded"] != found["runs"]["total"]:
            raise RuntimeError(f"not every run succeeded: {found['runs']}")
        return seconds

    def runs(self, experiment_id: str) -> list[dict[str, Any]]:
        """Every run of an experiment."""
        runs: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = self.get(f"/v1/experiments/{experiment_id}/runs?limit=100{cursor}")
            runs += page["items"]
            if page["next_cursor"] is None:
                return runs
            cursor = f"&cursor={page['next_cursor']}"

    def get(self, path: str) -> Any:  # noqa: ANN401 - whatever JSON it is
        """Read a resource."""
        answer = httpx.get(f"{self.url}{path}", timeout=300)
        answer.raise_for_status()
        return answer.json()


def deployments() -> list[str]:
    """What this machine can run: the embedded stack, and PostgreSQL with every broker that answers."""
    answering = [name for name, port in SERVERS.items() if _is_open(port)]
    brokers = [name for name in answering if name in _BROKERS]
    return [EMBEDDED, *(f"PostgreSQL, {name}" for name in brokers if "PostgreSQL" in answering)]


@contextmanager
def running(name: str, concurrency: int = 2, **settings: str) -> Iterator[Stack]:
    """Run the deployment ``name`` in a folder of its own until the block ends."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        own = {"BFC_CHILD_THREADS": "1", "BFC_LOG_LEVEL": "WARNING", **settings}
        log = stack.enter_context((folder / "log").open("wb"))
        if name == EMBEDDED:
            _start(
                stack,
                [
                    "service.embedded",
                    "--data-dir",
                    str(folder),
                    "--port",
                    "0",
                    "--concurrency",
                    str(concurrency),
                ],
                own,
                log,
            )
            wait_until((folder / "embedded.json").exists)
            url = str(json.loads((folder / "embedded.json").read_text())["url"])
        else:
            _, broker = name.split(", ")
            prefix = f"bfc-bench-{uuid4().hex[:12]}."
            own |= {
                "BFC_DATA_DIR": str(folder),
                "BFC_DATABASE_URL": stack.enter_context(_new_database()),
                "BFC_BROKER_URL": _BROKERS[broker],
                "BFC_BROKER_PREFIX": prefix,
                "BFC_CONCURRENCY": str(concurrency),
            }
            stack.enter_context(_tidied(broker, prefix))
            subprocess.run([sys.executable, "-m", "migrations"], cwd=ROOT, env=clean() | own, check=True)
            port = free_port()
            url = f"http://127.0.0.1:{port}"
            _start(stack, ["service", "--port", str(port)], own, log)
            _start(stack, ["worker"], own, log)
        wait_until(lambda: answers(url))
        yield Stack(name, url)


@contextmanager
def api_alone(folder: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run the API without any worker on a SQLite database in ``folder``; its process and address."""
    port = free_port()
    own = {
        "BFC_DATA_DIR": str(folder),
        "BFC_DATABASE_URL": f"sqlite:///{folder / 'bfc.db'}",
        "BFC_LOG_LEVEL": "WARNING",
    }
    environment = clean() | own | settings
    subprocess.run([sys.executable, "-m", "migrations"], cwd=ROOT, env=environment, check=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "--port", str(port)],
        cwd=ROOT, env=environment, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(url))
        yield process, url
    finally:
        process.kill()
        process.wait()


def clean() -> dict[str, str]:
    """This process's environment without settings of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BFC_")}  # noqa: TID251


def _start(stack: ExitStack, module: list[str], own: dict[str, str], log: Any) -> None:  # noqa: ANN401 - a file
    process = subprocess.Popen(
        [sys.executable, "-m", *module], cwd=ROOT, env=clean() | own, stdout=log, stderr=log
    )

    def stop() -> None:
        process.send_signal(signal.SIGTERM)
        process.wait(60)

    stack.callback(stop)


@contextmanager
def _new_database() -> Iterator[str]:
    name = f"bfc_bench_{uuid4().hex[:12]}"
    server = create_engine(f"{_POSTGRES}/postgres", isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield f"{_POSTGRES}/{name}"
    finally:
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()


@contextmanager
def _tidied(broker: str, prefix: str) -> Iterator[None]:
    try:
        yield
    finally:
        if broker == "RabbitMQ":
            with Connection(_BROKERS[broker]) as connection:
                connection.default_channel.queue_delete(f"{prefix}train.cpu")
                connection.default_channel.exchange_delete(f"{prefix}train.cpu")
        else:
            with Redis.from_url(_BROKERS[broker]) as redis:
                for key in redis.scan_iter(f"{prefix}*"):
                    redis.delete(key)


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def answers(url: str) -> bool:
    """Whether an API answers there."""
    try:
        return httpx.get(f"{url}/healthz").is_success
    except httpx.TransportError:
        return False


def wait_until(fact: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until a fact is one.

    Raises:
        TimeoutError: it is none within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.02)
