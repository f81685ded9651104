"""Queues per resource: who waits where, what an autoscaler reads, one worker a GPU."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import select

from service.config import Settings
from service.database import database_now
from service.metrics import WorkCollector
from service.models import Pack, Worker
from service.runs import lifecycle
from tests.service.conftest import SMALL, serve, settings_for
from worker.devices import choose_device, hold_device


@pytest.fixture(scope="module")
def split(database_url, tmp_path_factory):
    """A deployment in which networks wait for GPUs."""
    folder = tmp_path_factory.mktemp("data")
    yield from serve(settings_for(database_url, folder, network_queue="train.gpu"))


def claim(api, queue: str) -> lifecycle.Claim | None:
    with api.database.writing() as session:
        return lifecycle.claim(
            session, queue=queue, worker_id="tester", device="cpu", lease=timedelta(minutes=5)
        )


def scraped(api) -> dict[tuple[str, str], float]:
    for collector in api.app.state.metrics.registry._collector_to_names:
        if isinstance(collector, WorkCollector):
            collector.forget()
    found = re.findall(r'^(bfc_\w+){queue="([\w.]+)"} (\S+)$', api.get("/metrics").text, re.MULTILINE)
    return {(name, queue): float(value) for name, queue, value in found}


def test_networks_wait_for_gpus_and_the_rest_for_cores(split) -> None:
    empty = scraped(split)
    for name in (
        "bfc_queue_packs",
        "bfc_queue_oldest_seconds",
        "bfc_queue_estimated_seconds",
        "bfc_free_slots",
    ):
        assert empty[name, "train.gpu"] == empty[name, "train.cpu"] == 0, name
    split.post(SMALL)
    with split.database.writing() as session:
        now = database_now(session)
        session.add(
            Worker(
                id="host/x/0/1",
                hostname="host",
                pid=1,
                queue="train.gpu",
                device="cuda:0",
                concurrency=1,
                version="1",
                started_at=now,
                heartbeat_at=now,
            )
        )
        assert lifecycle.due_queues(session) == []
    waiting = scraped(split)
    assert waiting["bfc_queue_packs", "train.gpu"] >= 1
    assert waiting["bfc_queue_estimated_seconds", "train.cpu"] > 0
    assert (waiting["bfc_slots", "train.gpu"], waiting["bfc_free_slots", "train.gpu"]) == (1, 1)
    assert waiting["bfc_slots", "train.cpu"] == 0
    kinds = {}
    for queue in ("train.gpu", "train.cpu"):
        kinds[queue] = set()
        while (claimed := claim(split, queue)) is not None:
            kinds[queue] |= {run.spec.learner.kind for run in claimed.runs}
            if queue == "train.gpu":
                busy = scraped(split)
                assert busy["bfc_free_slots", queue] == 0
                assert busy["bfc_wanted_slots", queue] == 1 + busy["bfc_queue_packs", queue]
            split.finish(claimed)
    assert kinds == {
        "train.gpu": {"algorithm_1", "layerwise", "matched_compute_control"},
        "train.cpu": {"kernel_ridge"},
    }


MANY = SMALL | {
    "learners": [{"kind": "joint", "width": 40}, {"kind": "kernel_ridge", "kernel": {"kind": "rbf"}}],
    "seeds": 60,
    # Long enough that on a CPU a pack has those that are stepped together, and no more.
    "budget": {"steps_per_stage": 5000, "test_samples": 200},
}


@pytest.mark.parametrize(
    ("setting", "of_networks"),
    [({}, 4), ({"network_pack_bytes": 2**30}, 1), ({"network_pack_bytes": 2**30, "pack_members": 20}, 3)],
    ids=["a CPU's cache", "a GPU's memory", "a GPU's memory in parts"],
)
def test_packs_of_networks_have_the_size_of_the_device_that_trains_them(
    setting: dict[str, int], of_networks: int, database_url, tmp_path: Path
) -> None:
    queues = {"network_queue": "sized.gpu", "queue": "sized.cpu"}
    for deployment in serve(settings_for(database_url, tmp_path, **queues, **setting)):
        planned = deployment.post(MANY, params={"force": True, "dry_run": True}).json()
        assert deployment.post(MANY).status_code == 202
        packs = {}
        for queue in queues.values():
            packs[queue] = []
            while (claimed := claim(deployment, queue)) is not None:
                packs[queue].append(claimed)
                deployment.finish(claimed)
        assert len(packs["sized.gpu"]) == of_networks
        assert planned["packs"] == sum(map(len, packs.values()))
        assert sum(len(claimed.runs) for claimed in packs["sized.gpu"]) == 60
        assert len(packs["sized.cpu"]) == (3 if "pack_members" in setting else 1)


def test_a_composition_may_leave_the_size_of_packs_empty(monkeypatch) -> None:
    monkeypatch.setenv("BFC_NETWORK_PACK_BYTES", "")
    assert Settings().network_pack_bytes is None
    monkeypatch.setenv("BFC_NETWORK_PACK_BYTES", "21474836480")
    assert Settings().network_pack_bytes == 20 * 2**30
    monkeypatch.setenv("BFC_NETWORK_PACK_BYTES", "0")
    with pytest.raises(ValidationError, match="network_pack_bytes"):
        Settings()


def test_a_lost_wake_up_is_sent_to_the_queue_of_its_pack(split) -> None:
    split.post(SMALL)
    later = timedelta(hours=1)
    with split.database.writing() as session:
        for pack in session.scalars(select(Pack).where(Pack.status == "queued")):
            pack.publish_at -= later
        session.flush()
        assert lifecycle.due_queues(session) == ["train.cpu", "train.gpu"]
        wakeups = lifecycle.due_wakeups(session, "train.gpu", later, later, 10)
        assert {wakeup.queue for wakeup in wakeups} == {"train.gpu"}
        assert lifecycle.due_queues(session) == ["train.cpu"]


def test_a_gpu_is_one_worker_s_and_trains_one_pack_at_a_time(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="one worker a GPU"):
        Settings(device="cuda:0", concurrency=2)
    held = hold_device(choose_device("cuda:0"), tmp_path)
    assert held is not None
    with pytest.raises(RuntimeError, match="another worker trains on GPU 0"):
        hold_device(choose_device("cuda"), tmp_path)
    other = hold_device(choose_device("cuda:1"), tmp_path)
    assert other is not None
    other.release()
    held.release()
    again = hold_device(choose_device("cuda:0"), tmp_path)
    assert again is not None
    again.release()
    assert hold_device(choose_device("cpu"), tmp_path) is None
