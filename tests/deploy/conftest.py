"""What the deployment tests ask of the machine: docker-compose, PostgreSQL, RabbitMQ."""

import os
import shutil
import uuid
from collections.abc import Iterator

import kombu
import psycopg
import pytest

POSTGRES = "postgresql://postgres@127.0.0.1:5432"
BROKER = "amqp://guest:guest@127.0.0.1:5672//"


def missing(what: str) -> None:
    """Skip, or fail where the gate says that everything is to be there."""
    if os.getenv("BFC_REQUIRE_SERVERS") == "1":
        pytest.fail(f"{what} is required (BFC_REQUIRE_SERVERS=1)")
    pytest.skip(f"{what} is not here")


@pytest.fixture(scope="session")
def docker_compose() -> str:
    command = shutil.which("docker-compose")
    if command is None:
        missing("docker-compose")
    return str(command)


@pytest.fixture
def database_url() -> Iterator[str]:
    """An empty database of its own on the local PostgreSQL."""
    name = f"bfc_deploy_{uuid.uuid4().hex[:12]}"
    try:
        admin = psycopg.connect(f"{POSTGRES}/postgres", autocommit=True, connect_timeout=3)
    except psycopg.OperationalError:
        missing("PostgreSQL on port 5432")
    with admin:
        admin.execute(f'CREATE DATABASE "{name}"')
        yield f"postgresql+psycopg://postgres@127.0.0.1:5432/{name}"
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def broker_prefix() -> Iterator[str]:
    """A prefix of its own on the local RabbitMQ; its queues are deleted afterwards."""
    prefix = f"deploy-{uuid.uuid4().hex[:8]}."
    try:
        with kombu.Connection(BROKER, connect_timeout=3) as connection:
            connection.ensure_connection(max_retries=1)
    except (OSError, kombu.exceptions.OperationalError):
        missing("RabbitMQ on port 5672")
    yield prefix
    with kombu.Connection(BROKER) as connection:
        connection.channel().queue_delete(f"{prefix}train.cpu")
