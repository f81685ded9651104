"""A server that answers what a test tells it to, over a real socket, and remembers what it was asked."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import uvicorn

from bfc_client.transport import Transport
from migrations.upgrade import upgrade
from service.app import create_app
from service.config import Settings
from service.database import open_database


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Script:
    """Answers in order; the last is given again. A string of "drop" closes the connection unanswered."""

    answers: list[Any] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    transports: list[Transport] = field(default_factory=list)
    url: str = ""

    def answer(self, status: int, body: object = None, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers.append(
            (status, content, {name.replace("_", "-"): text for name, text in headers.items()})
        )

    def drop(self) -> None:
        self.answers.append("drop")

    def transport(self, **options: Any) -> Transport:
        self.transports.append(Transport(self.url, sleep=self.slept.append, **options))
        return self.transports[-1]


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            script.asked.append(
                Asked(self.command, self.path, dict(self.headers.items()), self.rfile.read(length))
            )
            answer = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
            if answer == "drop":
                self.close_connection = True
                return
            status, content, headers = answer
            self.send_response(status)
            for name, text in headers.items():
                self.send_header(name, text)
            if status != 304:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if status != 304:
                self.wfile.write(content)

        do_POST = do_GET  # noqa: N815 - the name that http.server asks for

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield script
    for transport in script.transports:
        transport.close()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real API on SQLite, without a worker: what is accepted stays queued."""
    folder = tmp_path_factory.mktemp("api")
    settings = Settings(
        data_dir=folder, database_url=f"sqlite:///{folder}/bfc.db", broker_url="filesystem://"
    )
    database = open_database(settings.database_url, settings.busy_timeout)
    upgrade(database)
    database.dispose()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(create_app(settings), log_level="warning", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()
