"""A real server on a real database for every test; results come from the real lifecycle, without a worker."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import create_engine, text

from bfc_core.specs import Metrics, Outcome, Report, RunSpec
from migrations.upgrade import upgrade
from service.app import create_app
from service.config import Settings
from service.database import Database, open_database
from service.runs import lifecycle

POSTGRES = "postgresql+psycopg://postgres@127.0.0.1:5432"

SMALL = {
    "name": "small",
    "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
    "learners": [
        {"kind": "algorithm_1"},
        {"kind": "layerwise"},
        {"kind": "kernel_ridge", "kernel": {"kind": "rbf"}},
    ],
    "n": 64,
    "dim": 6,
    "seeds": 2,
    "budget": {"steps_per_stage": 20, "test_samples": 200},
}
"""Eight runs: the control comes beside layerwise."""

NMSE = {"algorithm_1": 0.001, "layerwise": 0.01, "matched_compute_control": 0.02}
FEATURES = {
    "algorithm_1": {2: 0.01, 3: 0.1},
    "layerwise": {2: 0.05, 3: 0.2},
    "matched_compute_control": {2: 0.04},
}


@dataclass(frozen=True)
class Api:
    """A running server, a client for it and the database behind it."""

    client: httpx.Client
    database: Database
    settings: Settings
    app: FastAPI

    def post(self, body: object = SMALL, **options: object) -> httpx.Response:
        """Cells are computed anew, since the tests of a module share a database; test_reuse.py does otherwise."""
        content = {} if "content" in options else {"json": body}
        options = {"params": {"force": True}} | options
        return self.client.post("/v1/experiments", **content, **options)

    def submitted(self, **changes: object) -> dict:
        answer = self.post(SMALL | changes)
        assert answer.status_code == 202, answer.text
        return answer.json()

    def get(self, path: str, **options: object) -> httpx.Response:
        return self.client.get(path, **options)

    def count(self, table: str) -> int:
        with self.database.reading() as session:
            return session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()

    def claim(self) -> lifecycle.Claim | None:
        with self.database.writing() as session:
            return lifecycle.claim(
                session, queue=self.settings.queue, worker_id="test", device="cpu", lease=timedelta(minutes=5)
            )

    def finish(self, claim: lifecycle.Claim, report_of: Callable[[RunSpec], Report] | None = None) -> None:
        reports = {run.id: (report_of or report)(run.spec) for run in claim.runs}
        with self.database.writing() as session:
            lifecycle.complete(session, claim, reports)

    def finish_all(self, report_of: Callable[[RunSpec], Report] | None = None) -> None:
        while (claim := self.claim()) is not None:
            self.finish(claim, report_of)


def report(run: RunSpec) -> Report:
    """A plausible report: the kernel fails to learn, the hierarchy is learned, seeds differ a little."""
    kind = run.learner.kind
    factor = 1 + 0.1 * run.seed
    return Report(
        outcome=Outcome.SUCCEEDED,
        metrics=Metrics(
            nmse=NMSE.get(kind, 0.5) * factor,
            feature_error={level: error * factor for level, error in FEATURES.get(kind, {}).items()},
            level_coefficient={2: 1.0, 3: 0.9},
            variance_explained={2: 0.99, 3: 0.9},
        ),
        seconds=1.5,
        solve_seconds=0.5 if kind == "kernel_ridge" else None,
        steps=40,
        selection={"ridge": 1e-3},
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def settings_for(url: str, folder: Path, **changes: object) -> Settings:
    return Settings.model_validate(
        {
            "data_dir": folder,
            "database_url": url,
            "broker_url": "filesystem://",
            "broker_timeout": timedelta(seconds=1),
            # The reconciler shall not interfere with what a test holds in its hands.
            "reconcile_interval": timedelta(hours=1),
        }
        | changes
    )


def serve(settings: Settings) -> Iterator[Api]:
    port = free_port()
    app = create_app(settings)
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    database = open_database(settings.database_url)

    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        yield Api(client, database, settings, app)
    server.should_exit = True
    thread.join(10)
    database.dispose()


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.servers)])
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty database of the newest version."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('database') / 'bfc.db'}"
        migrated(url)
        yield url
        return
    name = f"bfc_test_{uuid4().hex[:12]}"
    server = create_engine(f"{POSTGRES}/postgres", isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    migrated(f"{POSTGRES}/{name}")
    yield f"{POSTGRES}/{name}"
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


def migrated(url: str) -> None:
    database = open_database(url)
    upgrade(database)
    database.dispose()


@pytest.fixture(scope="module")
def api(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    yield from serve(settings_for(database_url, tmp_path_factory.mktemp("data")))


@pytest.fixture
def finished(api: Api) -> dict:
    """An experiment all of whose runs have succeeded."""
    experiment = api.submitted()
    api.finish_all()
    return api.get(f"/v1/experiments/{experiment['id']}").json()


def unknown_id() -> UUID:
    return uuid4()
