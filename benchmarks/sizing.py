"""``python -m benchmarks.sizing``: rows, bytes and transactions that one run leaves in PostgreSQL, as JSON.

A whole deployment on the local PostgreSQL and Redis, in a database of its own: API, one worker, a store in a folder.
docs/operations.md multiplies what comes out. Bytes are with indexes, after VACUUM, so that they are those of a table
in use and not of one that was just filled.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import httpx
from sqlalchemy import create_engine, text

from migrations.upgrade import upgrade
from service.database import Database, open_database

POSTGRES = "postgresql+psycopg://postgres@127.0.0.1:5432"
REDIS = "redis://127.0.0.1:6379/0"
TABLES = (
    "experiments",
    "experiment_runs",
    "packs",
    "runs",
    "attempts",
    "reports",
    "measurements",
    "events",
    "artifacts",
)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizing", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--port", type=int, default=8437)
    options = parser.parse_args()
    name = f"bfc_sizing_{uuid4().hex[:8]}"
    server = create_engine(f"{POSTGRES}/postgres", isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        with tempfile.TemporaryDirectory() as folder:
            sys.stdout.write(
                json.dumps(_measured(name, Path(folder), options.seeds, options.port), indent=1) + "\n"
            )
    finally:
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()
    return 0


def _spec(seeds: int) -> dict[str, object]:
    return {
        "name": "sizing",
        "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
        "learners": [
            {"kind": "algorithm_1"},
            {"kind": "joint"},
            {"kind": "layerwise"},
            {"kind": "kernel_ridge", "kernel": {"kind": "polynomial"}},
        ],
        "n": 64,
        "dim": 6,
        "seeds": seeds,
        "budget": {"steps_per_stage": 40, "test_samples": 200, "keep_predictor": True},
    }


def _measured(name: str, folder: Path, seeds: int, port: int) -> dict[str, object]:
    database = open_database(f"{POSTGRES}/{name}")
    upgrade(database)
    prefix = f"{name}."
    environment = os.environ | {  # noqa: TID251 - for processes of our own
        "BFC_DATABASE_URL": f"{POSTGRES}/{name}",
        "BFC_BROKER_URL": REDIS,
        "BFC_BROKER_PREFIX": prefix,
        "BFC_DATA_DIR": str(folder / "data"),
        "BFC_STORE_URL": (folder / "store").as_uri(),
        "BFC_CHILD_THREADS": "1",
    }
    started = [
        subprocess.Popen([sys.executable, "-m", *command], env=environment, stderr=subprocess.DEVNULL)
        for command in (["service", "--port", str(port)], ["worker"])
    ]
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(lambda: _is_ready(url))
        idle = _transactions(database)
        time.sleep(20)
        idle_rate = (_transactions(database) - idle) / 20
        training_rate = _training_rate(database, url) - idle_rate
        _empty(database)
        before, began = _transactions(database), time.monotonic()
        body = _spec(seeds)
        experiment = httpx.post(f"{url}/v1/experiments", json=body, timeout=60).json()
        most = 0

        def has_ended() -> bool:
            nonlocal most
            most = max(
                most,
                _count(database, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"),
            )
            return (
                httpx.get(f"{url}{experiment['links']['self']}", timeout=60).json()["finished_at"] is not None
            )

        _wait(has_ended)
        seconds = time.monotonic() - began
        transactions = _transactions(database) - before - idle_rate * seconds
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(60)
    with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("VACUUM ANALYZE"))
    runs = _count(database, "SELECT count(*) FROM runs")
    rows = {table: _count(database, f"SELECT count(*) FROM {table}") for table in TABLES}  # noqa: S608 - names of our own
    sizes = {table: _count(database, f"SELECT pg_total_relation_size('{table}')") for table in TABLES}
    database.dispose()
    files = [path.stat().st_size for path in (folder / "store" / "artifacts").rglob("*.safetensors")]
    return {
        "runs": runs,
        "packs": rows["packs"],
        "seconds": round(seconds, 1),
        "load_average": os.getloadavg(),
        "rows_a_run": {table: round(count / runs, 3) for table, count in rows.items()},
        "bytes_a_row": {table: round(sizes[table] / max(1, count)) for table, count in rows.items()},
        "bytes_a_run": round(sum(sizes.values()) / runs),
        "transactions_a_pack": round(transactions / rows["packs"], 1),
        "transactions_a_second_of_training": round(training_rate, 2),
        "idle_transactions_a_second": round(idle_rate, 2),
        "most_connections": most,
        "artifact_bytes_a_run": round(sum(files) / len(files)) if files else 0,
        "spec_bytes": len(json.dumps(body)),
    }


def _training_rate(database: Database, url: str) -> float:
    """Transactions a second while one pack trains, at the settings' own intervals."""
    endless = _spec(1) | {"learners": [{"kind": "joint"}], "budget": {"steps_per_stage": 1_000_000}}
    links = httpx.post(f"{url}/v1/experiments", json=endless, timeout=60).json()["links"]
    _wait(lambda: httpx.get(f"{url}{links['self']}", timeout=60).json()["status"] == "running")
    time.sleep(10)
    before, began = _transactions(database), time.monotonic()
    time.sleep(30)
    rate = (_transactions(database) - before) / (time.monotonic() - began)
    httpx.post(f"{url}{links['self']}/cancel", timeout=60)
    _wait(lambda: httpx.get(f"{url}{links['self']}", timeout=60).json()["finished_at"] is not None)
    return rate


def _empty(database: Database) -> None:
    """Begin anew: the pack that was only watched shall not be counted."""
    with database.writing() as session:
        session.execute(text("TRUNCATE experiments, runs, packs, idempotency_keys CASCADE"))


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _transactions(database: Database) -> int:
    time.sleep(1.5)  # the server's counters are a second late
    return _count(
        database,
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()",
    )


def _count(database: Database, query: str) -> int:
    with database.reading() as session:
        return int(session.execute(text(query)).scalar_one())


def _wait(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 330
    while not fact():
        if time.monotonic() > deadline:
            raise TimeoutError("the deployment did not come to its end")
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
