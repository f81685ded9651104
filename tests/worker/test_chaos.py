"""Hundreds of short packs while everything is killed at random; what comes out is what nobody would have disturbed.

``make faults`` runs it. ``BFC_CHAOS_SEED`` repeats a run's order of blows (not their timing), ``BFC_CHAOS_PACKS``
is the number of packs, ``BFC_CHAOS_RECORD`` a folder for a JSON record of each run.
"""

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import httpx
import psutil
import pytest
from kombu import Connection
from redis import Redis
from sqlalchemy import create_engine, text

from service.models import PackStatus
from tests.worker.conftest import Deployment
from tests.worker.test_faults import KERNEL, SHORT

SEED = os.environ.get("BFC_CHAOS_SEED")  # noqa: TID251 - the suite's own setting
PACKS = int(os.environ.get("BFC_CHAOS_PACKS", "200"))  # noqa: TID251 - the suite's own setting
RECORD = os.environ.get("BFC_CHAOS_RECORD")  # noqa: TID251 - the suite's own setting
WORKERS = 2
QUIET_START_SECONDS = 3.0
"""An API starts within this on a machine with nothing else to do. On a slower one blows fall more slowly by as much: as
many on a pack, and an API that is killed has a chance to have answered before."""


class Chaos:
    """A deployment with an API, two workers, and somebody who breaks them."""

    def __init__(self, deployment: Deployment, seed: int) -> None:
        self.deployment = deployment
        self.random = random.Random(seed)
        self.blows: Counter[str] = Counter()
        began = time.monotonic()
        self.api = deployment.start_api()
        self.pace = max(1.0, (time.monotonic() - began) / QUIET_START_SECONDS)
        self.workers = [self.start_worker(number) for number in range(WORKERS)]

    def start_worker(self, number: int):
        folder = "data" if self.deployment.database.is_sqlite else f"host-{number}"
        # Random blows are no property of a pack: only one that fell a hundred times would be poison. The API is not
        # told: whoever reaps counts to the limit of the worker that died.
        return self.deployment.start_worker(data_dir=folder, concurrency="1", crash_limit="100")

    def submit_all(self, count: int) -> list[UUID]:
        return [UUID(self.submit(number)) for number in range(count)]

    def submit(self, number: int) -> str:
        """As a client does it: the same key until there is an answer, whatever happens to the API."""
        spec = {
            "name": f"chaos {number}",
            "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
            "learners": [SHORT if number % 2 else KERNEL],
            "n": 64,
            "dim": 6,
            "seeds": [number],
            "budget": {"test_samples": 64},
        }
        deadline = time.monotonic() + 300 * self.pace
        while time.monotonic() < deadline:
            try:
                answer = httpx.post(
                    f"{self.api.url}/v1/experiments",
                    json=spec,
                    headers={"Idempotency-Key": f"chaos-{number}"},
                    timeout=30,
                )
            except httpx.TransportError:
                time.sleep(0.2)
                continue
            if answer.status_code == 202:
                return answer.json()["id"]
            assert answer.status_code in {409, 503}, answer.text
            time.sleep(0.2)
        pytest.fail(
            "an experiment could not be submitted in five minutes, or as much longer as this machine is slower"
        )

    def strike(self) -> None:
        """One blow, and the repair that a supervisor would do."""
        blows = [self.kill_worker, self.kill_child, self.kill_api, self.freeze_worker, self.empty_broker]
        if not self.deployment.database.is_sqlite:
            blows.append(self.cut_database)
        blow = self.random.choice(blows)
        self.blows[blow.__name__] += 1
        blow()

    def kill_worker(self) -> None:
        number = self.random.randrange(WORKERS)
        self.workers[number].kill()
        self.workers[number] = self.start_worker(number)

    def kill_child(self) -> None:
        pids = {worker.process.pid for worker in self.workers}
        children = [
            child
            for pid in pids
            for child in psutil.Process(pid).children(recursive=True)
            if child.pid == _group(child.pid)
        ]
        if children:
            with_luck = self.random.choice(children)
            try:
                with_luck.kill()
            except psutil.NoSuchProcess:
                return

    def kill_api(self) -> None:
        self.api.kill()
        self.api = self.deployment.start_api()

    def freeze_worker(self) -> None:
        """Beyond its lease: what it writes afterwards must be refused."""
        frozen = self.random.choice(self.workers).process
        frozen.send_signal(signal.SIGSTOP)
        time.sleep(3)
        frozen.send_signal(signal.SIGCONT)

    def empty_broker(self) -> None:
        settings = self.deployment.settings
        queue = settings.broker_prefix + settings.queue
        if settings.broker_url.startswith("redis"):
            with Redis.from_url(settings.broker_url) as redis:
                redis.delete(queue)
        elif settings.broker_url.startswith("amqp"):
            # On a slow machine the first blow may fall before anybody has declared the queue.
            with Connection(settings.broker_url) as connection, suppress(*connection.channel_errors):
                connection.default_channel.queue_purge(queue)
        else:
            for file in (settings.data_dir / "broker").glob("*.msg"):
                file.unlink(missing_ok=True)

    def cut_database(self) -> None:
        url = self.deployment.database.engine.url
        server = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
        with server.connect() as connection:
            connection.execute(text(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS false"))
            connection.execute(
                text(
                    f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{url.database}'"
                )
            )
            time.sleep(self.random.uniform(0.1, 1.5))
            connection.execute(text(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS true"))
        server.dispose()
        self.deployment.database.dispose()


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return -1


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_chaos_loses_nothing_and_doubles_nothing(deployment: Deployment) -> None:
    seed = int(SEED) if SEED else random.SystemRandom().randrange(2**31)
    print(f"\nBFC_CHAOS_SEED={seed} packs={PACKS}")  # noqa: T201 - the only way to repeat it
    began = time.monotonic()
    chaos = Chaos(deployment, seed)
    submitted: list[UUID] = []
    submitter = threading.Thread(target=lambda: submitted.extend(chaos.submit_all(PACKS)))
    submitter.start()

    def is_over() -> bool:
        if submitter.is_alive():
            return False
        return all(pack.status.is_terminal for pack in deployment.packs())

    while not is_over():
        time.sleep(chaos.pace * chaos.random.uniform(0.2, 1.5))
        chaos.strike()
        assert time.monotonic() - began < 1100, "chaos did not come to an end"
    submitter.join()
    packs = deployment.packs()
    record = {
        "deployment": deployment.settings.broker_url.partition(":")[0]
        + ("+sqlite" if deployment.database.is_sqlite else "+postgres"),
        "seed": seed,
        "pace": round(chaos.pace, 1),
        "packs": len(packs),
        "succeeded": sum(deployment.status(experiment) == "succeeded" for experiment in set(submitted)),
        "reports": len(deployment.reports()),
        "attempts": len(deployment.attempts()),
        "outcomes": dict(Counter(str(attempt.outcome) for attempt in deployment.attempts())),
        "blows": dict(chaos.blows),
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(record))  # noqa: T201 - the record of this run
    if RECORD:
        with (Path(RECORD) / "chaos.ndjson").open("a") as file:
            file.write(json.dumps(record) + "\n")
    deployment.check()
    assert len(set(submitted)) == len(packs) == PACKS, "nothing was lost and nothing accepted twice"
    assert {deployment.status(experiment) for experiment in submitted} == {"succeeded"}
    assert {pack.status for pack in packs} == {PackStatus.FINISHED}
    assert len(deployment.reports()) == PACKS
