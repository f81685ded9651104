"""What every part of the suite needs: databases, brokers, and the rule for servers that are not there."""

import os
import socket
from collections.abc import Iterator
from functools import cache
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text

SERVERS = {"PostgreSQL": 5432, "Redis": 6379, "RabbitMQ": 5672}
POSTGRES = "postgresql+psycopg://postgres@127.0.0.1:5432"
REDIS = "redis://127.0.0.1:6379/0"
RABBITMQ = "amqp://guest:guest@127.0.0.1:5672//"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs an absent server; under BFC_REQUIRE_SERVERS=1 such a skip is a failure."""
    if item.get_closest_marker("servers") is None:
        return
    absent = [name for name, port in SERVERS.items() if not _answers(port)]
    if not absent:
        return
    reason = f"no {', no '.join(absent)} on the standard port"
    if os.environ.get("BFC_REQUIRE_SERVERS") == "1":  # noqa: TID251 - the suite's own setting
        pytest.fail(reason)
    pytest.skip(reason)


@cache
def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def new_postgres() -> Iterator[str]:
    """Address of an empty PostgreSQL database of this test's own."""
    name = f"bfc_test_{uuid4().hex[:12]}"
    server = create_engine(f"{POSTGRES}/postgres", isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield f"{POSTGRES}/{name}"
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


@pytest.fixture
def redis_url() -> str:
    """Address of Redis; keys are kept apart by ``broker_prefix``."""
    return REDIS


@pytest.fixture
def rabbitmq_url() -> str:
    """Address of RabbitMQ; queues are kept apart by ``broker_prefix``."""
    return RABBITMQ


@pytest.fixture
def bucket() -> Iterator[dict[str, str]]:
    """A bucket on an S3 server of this test's own, as settings."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - seconds of import that few tests need

    server = ThreadedMotoServer(ip_address="0.0.0.0", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    endpoint = f"http://127.0.0.1:{port}"
    # Servers of one process share their buckets.
    name = f"bfc-test-{uuid4().hex[:12]}"
    urlopen(Request(f"{endpoint}/{name}", method="PUT")).close()
    yield {
        "store_url": f"s3://{name}/lab",
        "store_endpoint": endpoint,
        "store_access_key_id": "tester",
        "store_secret_access_key": "correcthorse",
        "store_timeout": "5",
    }
    server.stop()
