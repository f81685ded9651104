"""Real workers on real brokers and databases; each deployment is one test's own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import psutil
import pytest
import torch
from kombu import Connection
from redis import Redis
from sqlalchemy import select

from bfc_core.packing import packs_of
from bfc_core.specs import ExperimentSpec
from migrations.upgrade import upgrade
from service import models
from service.config import Settings
from service.database import Database, open_database
from service.jobs import Publisher
from service.models import Attempt, AttemptOutcome, Experiment, Pack, PackStatus, Run, RunStatus
from service.runs import lifecycle

ROOT = Path(__file__).parents[2]

QUICK = {
    "BFC_LEASE": "2",
    "BFC_HEARTBEAT_INTERVAL": "0.5",
    "BFC_RECONCILE_INTERVAL": "0.3",
    "BFC_REPUBLISH_FIRST": "0.5",
    "BFC_CONTROL_INTERVAL": "0.1",
    "BFC_PROGRESS_INTERVAL": "0.1",
    "BFC_CHECKPOINT_INTERVAL": "0.2",
    "BFC_CANCEL_GRACE": "3",
    "BFC_DRAIN_GRACE": "10",
    "BFC_CHILD_THREADS": "1",
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """What a test computes beside the deployment has a child's bits: they depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass
class WorkerProcess:
    """A worker and what it wrote."""

    process: subprocess.Popen
    log: Path

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def drain(self) -> int:
        self.process.terminate()
        return self.process.wait(30)

    def has_said(self, words: str) -> bool:
        return words in self.log.read_text()


@dataclass
class ApiProcess(WorkerProcess):
    """The API as a process."""

    url: str = ""

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz").status_code == 200
        except httpx.TransportError:
            assert self.process.poll() is None, self.log.read_text()
            return False


@dataclass
class Deployment:
    """A database, a broker and any number of workers."""

    folder: Path
    environment: dict[str, str]
    settings: Settings
    database: Database
    publisher: Publisher
    workers: list[WorkerProcess] = field(default_factory=list)
    apis: list["ApiProcess"] = field(default_factory=list)

    def start_worker(
        self, data_dir: str = "data", inside: tuple[str, ...] = (), **settings: str
    ) -> WorkerProcess:
        """Start a worker; another ``data_dir`` makes it a stranger, as on another machine; ``inside``, on one."""
        log = self.folder / f"worker-{len(self.workers)}.log"
        environment = self.environment | {f"BFC_{name.upper()}": value for name, value in settings.items()}
        if self.settings.broker_url != "filesystem://":
            environment["BFC_DATA_DIR"] = str(self.folder / data_dir)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*inside, sys.executable, "-m", "worker"],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.workers.append(WorkerProcess(process, log))
        return self.workers[-1]

    def start_api(self, **settings: str) -> "ApiProcess":
        """Start the API on a free port, and wait until it answers."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        log = self.folder / f"api-{len(self.apis)}.log"
        environment = self.environment | {f"BFC_{name.upper()}": value for name, value in settings.items()}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "service", "--port", str(port)],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        api = ApiProcess(process, log, f"http://127.0.0.1:{port}")
        self.apis.append(api)
        self.wait(api.answers)
        return api

    def submit(self, *learners: dict, publish: bool = True, **changes: object) -> UUID:
        spec = ExperimentSpec.model_validate(
            {
                "name": "faults",
                "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
                "learners": learners,
                "n": 64,
                "dim": 6,
                "seeds": 2,
                "budget": {"test_samples": 64},
            }
            | changes
        )
        runs = spec.runs()
        with self.database.writing() as session:
            experiment, wakeups = lifecycle.accept(
                session,
                spec,
                runs,
                packs_of(runs, 16),
                owner="tester",
                queue=self.settings.queue,
                republish_first=self.settings.republish_first,
            )
        if publish:
            self.publisher.publish(wakeups)
        return experiment.id

    def status(self, experiment_id: UUID) -> str:
        with self.database.reading() as session:
            return session.get_one(Experiment, experiment_id).status.value

    def runs(self, experiment_id: UUID) -> list[Run]:
        with self.database.reading() as session:
            query = select(Run).where(Run.experiment_id == experiment_id).order_by(Run.learner_kind, Run.seed)
            return list(session.scalars(query))

    def packs(self) -> list[Pack]:
        with self.database.reading() as session:
            return list(session.scalars(select(Pack).order_by(Pack.id)))

    def attempts(self) -> list[Attempt]:
        with self.database.reading() as session:
            return list(session.scalars(select(Attempt).order_by(Attempt.pack_id, Attempt.fence)))

    def reports(self) -> dict[UUID, models.Report]:
        with self.database.reading() as session:
            return {report.run_id: report for report in session.scalars(select(models.Report))}

    def wait(self, fact: Callable[[], object], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not fact():
            if time.monotonic() > deadline:
                logs = "\n".join(worker.log.read_text() for worker in self.workers)
                pytest.fail(f"not within {seconds} s; packs {[vars(p) for p in self.packs()]}\n{logs}")
            time.sleep(0.05)

    def wait_for_end(self, experiment_id: UUID, seconds: float = 120) -> str:
        self.wait(lambda: models.ExperimentStatus(self.status(experiment_id)).is_terminal, seconds)
        return self.status(experiment_id)

    def wait_for_checkpoint(self) -> None:
        """A pack is in the middle of its work and has something to resume from."""
        self.wait(lambda: any(p.checkpoint_step > 0 and p.status is PackStatus.RUNNING for p in self.packs()))

    def check(self) -> None:
        """The oracle after every fault: all ended, each run reported once, fences agree, nobody left behind."""
        reports = self.reports()
        with self.database.reading() as session:
            runs = list(session.scalars(select(Run)))
        finished = {(a.pack_id, a.fence) for a in self.attempts() if a.outcome is AttemptOutcome.FINISHED}
        for run in runs:
            assert run.status.is_terminal
            assert (run.status in {RunStatus.SUCCEEDED, RunStatus.DIVERGED}) == (run.id in reports)
            if run.id in reports:
                assert (run.pack_id, reports[run.id].fence) in finished
        assert all(pack.status.is_terminal for pack in self.packs())
        assert all(attempt.outcome is not None for attempt in self.attempts())
        packs = [pack_id for pack_id, _ in finished]
        assert len(packs) == len(set(packs)), "a pack was finished twice"

    def processes(self) -> list[psutil.Process]:
        """Every process of this deployment that still lives, known by its environment."""
        mine = self.environment["BFC_BROKER_PREFIX"]
        found = []
        for process in psutil.process_iter():
            try:
                if (
                    process.environ().get("BFC_BROKER_PREFIX") == mine
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def stop(self) -> None:
        alive = [worker for worker in [*self.workers, *self.apis] if worker.process.poll() is None]
        for worker in alive:
            worker.process.send_signal(signal.SIGCONT)
            worker.process.terminate()
        for worker in alive:
            worker.process.wait(30)
        self.wait(lambda: not self.processes(), 60)


@pytest.fixture(
    params=[
        "sqlite+files",
        pytest.param("postgres+rabbitmq", marks=pytest.mark.servers),
        pytest.param("postgres+redis", marks=pytest.mark.servers),
    ]
)
def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    """Each of the three deployments in turn."""
    yield from _deploy(request, tmp_path, *request.param.split("+"))


@pytest.fixture
def embedded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    """SQLite and files only: for what does not depend on the servers."""
    yield from _deploy(request, tmp_path, "sqlite", "files")


def _deploy(
    request: pytest.FixtureRequest,
    folder: Path,
    database: str,
    broker: str,
    broker_url: str | None = None,
    database_url: str | None = None,
) -> Iterator[Deployment]:
    if database_url is None:
        is_postgres = database == "postgres"
        database_url = (
            request.getfixturevalue("new_postgres") if is_postgres else f"sqlite:///{folder / 'bfc.db'}"
        )
    if broker_url is None:
        broker_url = "filesystem://" if broker == "files" else request.getfixturevalue(f"{broker}_url")
    prefix = f"bfc-test-{uuid4().hex[:12]}."
    own = {
        **QUICK,
        "BFC_DATA_DIR": str(folder / "data"),
        "BFC_DATABASE_URL": database_url,
        "BFC_BROKER_URL": broker_url,
        "BFC_BROKER_PREFIX": prefix,
    }
    settings = Settings.model_validate(
        {name.removeprefix("BFC_").lower(): value for name, value in own.items()}
    )
    opened = open_database(database_url)
    upgrade(opened)
    publisher = Publisher(settings)
    publisher.start()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BFC_")}  # noqa: TID251
    deployment = Deployment(folder, inherited | own, settings, opened, publisher)
    try:
        yield deployment
    finally:
        deployment.stop()
        publisher.stop()
        opened.dispose()
        _tidy_broker(broker, broker_url, prefix + settings.queue, prefix)


def _tidy_broker(broker: str, url: str, queue: str, prefix: str) -> None:
    if broker == "rabbitmq":
        with Connection(url) as connection:
            connection.default_channel.queue_delete(queue)
            connection.default_channel.exchange_delete(queue)
    elif broker == "redis":
        with Redis.from_url(url) as redis:
            for key in redis.scan_iter(f"{prefix}*"):
                redis.delete(key)
