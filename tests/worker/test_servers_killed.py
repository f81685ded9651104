"""Rows of the fault matrix that need servers of their own: RabbitMQ and PostgreSQL killed, a message held too long."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.models import AttemptOutcome, PackStatus
from tests.worker.conftest import Deployment, _deploy
from tests.worker.own_servers import OwnPostgres, OwnRabbitMQ
from tests.worker.test_fault_matrix import SPEC
from tests.worker.test_faults import KERNEL, LONG, SHORT, undisturbed

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

Own = tuple[OwnRabbitMQ, Deployment]


def _with_rabbitmq(
    request: pytest.FixtureRequest, folder: Path, consumer_timeout_seconds: int | None = None
) -> Iterator[Own]:
    place = folder / "rabbitmq"
    place.mkdir()
    rabbitmq = OwnRabbitMQ(place, consumer_timeout_seconds)
    try:
        for deployment in _deploy(request, folder, "sqlite", "own", broker_url=rabbitmq.url):
            yield rabbitmq, deployment
    finally:
        rabbitmq.kill()


@pytest.fixture
def impatient_rabbitmq(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Own]:
    """A deployment on a RabbitMQ that lets a message be worked on for two seconds."""
    yield from _with_rabbitmq(request, tmp_path, consumer_timeout_seconds=2)


@pytest.fixture
def own_rabbitmq(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Own]:
    """A deployment on a RabbitMQ of its own."""
    yield from _with_rabbitmq(request, tmp_path)


@pytest.fixture
def own_postgres(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[OwnPostgres, Deployment]]:
    """A deployment on a PostgreSQL of its own, with a lease that outlasts its restarts."""
    postgres = OwnPostgres()
    try:
        for deployment in _deploy(request, tmp_path, "own", "files", database_url=postgres.url):
            yield postgres, deployment
    finally:
        postgres.remove()


def test_a_pack_that_outlasts_the_brokers_patience_is_trained_once_and_the_worker_stays(
    impatient_rabbitmq: Own,
) -> None:
    rabbitmq, deployment = impatient_rabbitmq
    worker = deployment.start_worker()
    experiment = deployment.submit(LONG | {"steps_per_stage": 5000})
    deployment.wait(lambda: "delivery acknowledgement" in rabbitmq.output())
    assert deployment.packs()[0].status is PackStatus.RUNNING, "the broker lost its patience in mid-training"
    assert deployment.wait_for_end(experiment) == "succeeded"
    assert [a.outcome for a in deployment.attempts()] == [AttemptOutcome.FINISHED]
    assert worker.process.poll() is None, worker.log.read_text()
    # It listens again: this wake-up comes from the broker, and its queue is empty in the end.
    assert deployment.wait_for_end(deployment.submit(SHORT)) == "succeeded"
    deployment.wait(lambda: deployment.publisher.backlog(deployment.settings.queue) == 0)
    deployment.check()
    assert worker.drain() == 0


def test_a_rabbitmq_killed_twice_costs_time_and_no_work(own_rabbitmq: Own) -> None:
    rabbitmq, deployment = own_rabbitmq
    api = deployment.start_api()
    deployment.start_worker()
    seeds = iter(range(100))

    def submit(learner: dict) -> None:
        spec = SPEC | {"learners": [learner], "seeds": [next(seeds)]}
        answer = httpx.post(f"{api.url}/v1/experiments", json=spec, timeout=60)
        assert answer.status_code == 202, answer.text

    submit(LONG)
    deployment.wait_for_checkpoint()
    for _ in range(2):
        submit(KERNEL)
        rabbitmq.kill()
        submit(KERNEL)
        submit(SHORT)
        rabbitmq.start()
        submit(KERNEL)
    deployment.wait(lambda: all(pack.status is PackStatus.FINISHED for pack in deployment.packs()), 240)
    assert len(deployment.packs()) == 9
    deployment.check()
    assert {a.outcome for a in deployment.attempts()} == {AttemptOutcome.FINISHED}


def test_a_postgres_killed_twice_in_the_middle_of_work_loses_and_doubles_nothing(
    own_postgres: tuple[OwnPostgres, Deployment],
) -> None:
    postgres, deployment = own_postgres
    patient = {"lease": "60", "heartbeat_interval": "1"}
    api = deployment.start_api(**patient)
    worker = deployment.start_worker(**patient)
    experiment = deployment.submit(LONG | {"steps_per_stage": 3000})
    deployment.wait_for_checkpoint()
    for number in range(2):
        key = {"Idempotency-Key": f"killed-{number}"}
        spec = SPEC | {"seeds": [10 + number]}
        postgres.kill_postmaster()
        refused = httpx.post(f"{api.url}/v1/experiments", json=spec, headers=key, timeout=60)
        assert refused.status_code == 503, refused.text
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert "Retry-After" in refused.headers
        time.sleep(1)
        postgres.start()
        deployment.database.dispose()
        answers: list[httpx.Response] = []

        def is_accepted(spec: dict = spec, key: dict = key, answers: list = answers) -> bool:
            answers.append(httpx.post(f"{api.url}/v1/experiments", json=spec, headers=key, timeout=60))
            return answers[-1].status_code == 202

        deployment.wait(is_accepted)
    assert deployment.wait_for_end(experiment) == "succeeded"
    deployment.wait(lambda: all(pack.status is PackStatus.FINISHED for pack in deployment.packs()))
    deployment.check()
    assert len(deployment.packs()) == 3
    assert len(deployment.attempts()) == 3, "training went on while the database was away"
    reports = deployment.reports()
    found = [reports[run.id].nmse for run in deployment.runs(experiment)]
    assert found == undisturbed(deployment, experiment)
    assert worker.drain() == 0
