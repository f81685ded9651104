"""schemathesis over the committed document: every check, alone and in sequences, and nothing may be found.

The server has one worker that shows itself and finishes packs as they come, so that the fuzz meets experiments in
every state. ``BFC_FUZZ_EXAMPLES`` (``make fuzz``) makes it longer; the seed is fixed unless it is longer.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from service.api_keys.repository import issue
from service.database import database_now
from service.models import Scope, Worker
from tests.service.conftest import Api, migrated, serve, settings_for

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
EXAMPLES = os.environ.get("BFC_FUZZ_EXAMPLES")  # noqa: TID251 - the suite's own setting
SEED = os.environ.get("BFC_FUZZ_SEED", "1")  # noqa: TID251 - the suite's own setting


@pytest.fixture
def inhabited(tmp_path: Path) -> Iterator[Api]:
    """A server with something in it, and somebody who works."""
    url = f"sqlite:///{tmp_path / 'bfc.db'}"
    migrated(url)
    stopped = threading.Event()

    def work(api: Api) -> None:
        while not stopped.wait(0.2):
            if (claim := api.claim()) is not None:
                api.finish(claim)

    for api in serve(settings_for(url, tmp_path, auth="keys")):
        with api.database.writing() as session:
            session.add(_worker(database_now(session)))
            # Not an admin's: it would revoke itself.
            _, secret = issue(session, name="fuzz", owner="fuzz", scopes=[Scope.READ, Scope.SUBMIT])
        api.client.headers["Authorization"] = f"Bearer {secret}"
        api.submitted()
        api.finish_all()
        worker = threading.Thread(target=work, args=(api,))
        worker.start()
        yield api
        stopped.set()
        worker.join()


@pytest.mark.timeout(3600)
def test_nothing_is_found_by_a_fuzzer_that_reads_the_document(inhabited: Api, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"),
        "run", str(ROOT / "docs" / "openapi.json"), "--url", str(inhabited.client.base_url),
        "--checks", "all", "--header", f"Authorization:{inhabited.client.headers['Authorization']}",
        "--max-examples", EXAMPLES or "4", "--seed", SEED, "--no-color",
    ]  # fmt: skip
    if EXAMPLES is None:
        command.append("--generation-deterministic")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}  # noqa: TID251 - what a process inherits
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    if EXAMPLES is not None:
        sys.stdout.write(done.stdout)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-4000:]
    assert inhabited.get("/healthz").status_code == 200


def _worker(now) -> Worker:
    return Worker(
        id="fuzz", hostname="fuzz", pid=1, queue="train.cpu", device="cpu", concurrency=1, version="0",
        started_at=now, heartbeat_at=now + timedelta(days=1),
    )  # fmt: skip
