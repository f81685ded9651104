"""Two machines that share nothing but database, broker and store; files that runs keep."""

import hashlib
import threading
from datetime import timedelta

import httpx
import numpy as np
import pytest
from safetensors.numpy import save_file
from sqlalchemy import update

from bfc_core.evaluation import measure, pose
from bfc_core.learners.network_file import load_network
from bfc_core.specs import RunSpec
from service.artifacts.retention import delete_expired
from service.config import Settings
from service.models import Artifact, AttemptOutcome
from service.runs import lifecycle
from service.store.base import StoreUnavailableError
from service.store.opening import open_store
from tests.worker.test_faults import LONG, SHORT, undisturbed
from worker.artifact_publication import ArtifactPublication, NotAnArtifactError
from worker.checkpoint_mirror import CheckpointMirror, restore
from worker.housekeeping import Housekeeping
from worker.pack_folder import PackFolder
from worker.slots import WorkerSlot

KEEPING = {"test_samples": 64, "keep_predictor": True}
SERVERS = [pytest.param("postgres+redis", marks=pytest.mark.servers)]


@pytest.fixture(params=["folder", "bucket"])
def store_settings(request: pytest.FixtureRequest, tmp_path) -> dict[str, str]:
    if request.param == "bucket":
        return request.getfixturevalue("bucket")
    return {"store_url": (tmp_path / "shared").as_uri()}


@pytest.mark.parametrize(
    "store_settings", [pytest.param("folder", marks=pytest.mark.faults), "bucket"], indirect=True
)
@pytest.mark.parametrize("deployment", SERVERS, indirect=True)
def test_training_goes_on_on_another_machine_from_the_store(deployment, store_settings) -> None:
    victim = deployment.start_worker(**store_settings)
    experiment = deployment.submit(LONG, budget=KEEPING)
    deployment.wait(lambda: any("shared" in uri or "s3://" in uri for uri in uris(deployment)))
    victim.kill()
    heir = deployment.start_worker(data_dir="elsewhere", **store_settings)
    assert deployment.wait_for_end(experiment) == "succeeded"
    deployment.check()
    assert heir.has_said("checkpoint.restored")
    reports = deployment.reports()
    found = [reports[run.id].nmse for run in deployment.runs(experiment)]
    assert found == undisturbed(deployment, experiment)
    store = open_store(Settings.model_validate(store_settings))
    deployment.wait(lambda: store.keys("packs") == [])
    kept = store.keys("artifacts")
    assert kept == sorted(f"artifacts/{run_id}/1-00000002/predictor.safetensors" for run_id in reports)


def uris(deployment) -> list[str]:
    return [pack.checkpoint_uri or "" for pack in deployment.packs()]


def test_a_kept_predictor_is_downloaded_and_gives_the_reported_numbers(embedded, tmp_path) -> None:
    embedded.start_worker()
    experiment = embedded.submit(SHORT, budget=KEEPING)
    assert embedded.wait_for_end(experiment) == "succeeded"
    api = embedded.start_api()
    for run in embedded.runs(experiment):
        listed = httpx.get(f"{api.url}/v1/runs/{run.id}/artifacts").json()["items"]
        assert [item["name"] for item in listed] == ["predictor.safetensors"]
        answer = httpx.get(f"{api.url}{listed[0]['path']}")
        assert answer.headers["content-type"] == "application/vnd.safetensors"
        assert hashlib.sha256(answer.content).hexdigest() == listed[0]["sha256"]
        assert answer.headers["etag"] == f'"{listed[0]["sha256"]}"'
        assert len(answer.content) == listed[0]["size_bytes"] == int(answer.headers["content-length"])
        (tmp_path / "downloaded").write_bytes(answer.content)
        metrics = measure(load_network(tmp_path / "downloaded"), pose(RunSpec.model_validate(run.spec)))
        assert metrics.nmse == embedded.reports()[run.id].nmse


# --- in one process ---------------------------------------------------------------------------------------------


def claimed(embedded, **changes):
    embedded.submit(SHORT, publish=False, **changes)
    return claim_again(embedded)


def claim_again(embedded):
    with embedded.database.writing() as session:
        return lifecycle.claim(
            session, queue="train.cpu", worker_id="tester", device="cpu", lease=timedelta(minutes=5)
        )


def saved(folder: PackFolder, step: int, content: bytes) -> tuple:
    path = folder.folder / f"step-{step:012d}.pt"
    path.write_bytes(content)
    return step, path, hashlib.sha256(content).hexdigest()


def test_the_newest_sound_checkpoint_of_an_earlier_attempt_is_fetched(
    embedded, store_settings, tmp_path
) -> None:
    store = open_store(Settings.model_validate(store_settings))
    first = claimed(embedded)
    here = PackFolder.of(tmp_path / "here", first)
    told: list[int] = []
    mirror = CheckpointMirror(store, here, lambda step, _uri, _sha256: told.append(step))
    for step in (1, 2, 3):
        mirror.offer(*saved(here, step, b"state %d" % step))
        embedded.wait(lambda: told[-1:] == [step])  # noqa: B023 - called at once
    mirror.offer(4, here.folder / "gone.pt", "0" * 64)
    mirror.finish(30)
    assert told == [1, 2, 3]
    names = [key.rpartition("/")[2] for key in store.keys(here.key)]
    assert names == [f"step-{step:012d}.pt{end}" for step in (2, 3) for end in ("", ".json")]
    # The newest is damaged in the store: the one before it counts.
    store.delete(f"{here.key}/step-{3:012d}.pt")
    store.put(f"{here.key}/step-{3:012d}.pt", b"state X")
    with embedded.database.writing() as session:
        lifecycle.release(session, first)
    second = claim_again(embedded)
    there = restore(store, PackFolder.of(tmp_path / "there", second))
    assert [folder.name for folder in there.earlier] == ["00000001"]
    assert [path.read_bytes() for path in there.earlier[0].glob("*.pt")] == [b"state 2"]
    # Cut off, and back: it writes beside its successor, under its own fence, and the successor sees nothing of it.
    late = CheckpointMirror(store, here, lambda *_: None)
    late.offer(*saved(here, 9, b"late"))
    late.finish(30)
    assert store.keys(there.key) == []
    assert restore(store, PackFolder.of(tmp_path / "again", first)).earlier == ()


def test_what_is_no_artifact_is_refused(embedded, tmp_path) -> None:
    claim = claimed(embedded)
    store = open_store(Settings(data_dir=tmp_path))
    publication = ArtifactPublication(store, embedded.database, claim, Settings(artifact_limit_bytes=5000))
    own = tmp_path / "artifacts" / "0"
    for name, content in {
        "predictor.safetensors": b"PK\x03\x04 an archive",
        "model.safetensors": b"\x80\x04\x95 a pickle",
        "predictor.pt": b"",
        "UPPER.safetensors": b"",
        "large.safetensors": bytes(5001),
    }.items():
        own.mkdir(parents=True)
        (own / name).write_bytes(content)
        with pytest.raises(NotAnArtifactError):
            publication.publish(own.parent, lambda: False, threading.Event())
        (own / name).unlink()
        own.rmdir()
    own.mkdir()
    (own / "predictor.safetensors").symlink_to("/etc/passwd")
    with pytest.raises(NotAnArtifactError):
        publication.publish(own.parent, lambda: False, threading.Event())
    assert store.keys("artifacts") == []
    assert embedded.database.is_sqlite


def test_a_run_that_was_moved_to_a_pack_of_its_own_keeps_what_it_left_there(embedded, tmp_path) -> None:
    """Its fence begins at 1 again; what the former pack uploaded under that fence and never reported gives way."""
    first = claimed(embedded, budget=KEEPING)
    store = open_store(Settings(data_dir=tmp_path))

    def publish(claim, seed: int) -> None:
        folder = tmp_path / f"{claim.pack_id}"
        for member in range(len(claim.runs)):
            (folder / str(member)).mkdir(parents=True)
            save_file({"flat": np.full(3, float(seed))}, folder / str(member) / "predictor.safetensors")
        publication = ArtifactPublication(store, embedded.database, claim, Settings())
        assert publication.publish(folder, lambda: False, threading.Event())
        assert publication.publish(folder, lambda: False, threading.Event()), "the same again is no change"

    publish(first, 1)
    with embedded.database.writing() as session:
        lifecycle.fail(session, first, lifecycle.Failure("tried", "a test's"), is_shared=False)
    second = claim_again(embedded)
    assert (second.pack_id, second.fence, second.runs[0]) == (2, 1, first.runs[0])
    publish(second, 2)
    with embedded.database.reading() as session:
        row = session.query(Artifact).filter_by(run_id=second.runs[0].id).one()
    assert row.uri == f"artifacts/{second.runs[0].id}/2-00000001/predictor.safetensors"
    assert hashlib.sha256(store.get(row.uri)).hexdigest() == row.sha256
    assert store.keys(f"artifacts/{second.runs[0].id}") == [row.uri]


def test_old_and_orphaned_files_are_deleted_and_no_others(embedded, tmp_path) -> None:
    """An artifact is seen once its run is reported; what was announced and never published goes after a day."""
    embedded.start_worker()
    experiment = embedded.submit(SHORT, budget=KEEPING)
    assert embedded.wait_for_end(experiment) == "succeeded"
    store = open_store(embedded.settings)
    published = store.keys("artifacts")
    run = embedded.runs(experiment)[0]
    orphan = f"artifacts/{run.id}/00000000/predictor.safetensors"
    store.put(orphan, b"late")
    with embedded.database.writing() as session:
        seen = session.get_one(Artifact, 1)
        session.add(
            Artifact(
                run_id=run.id,
                fence=0,
                name=seen.name,
                uri=orphan,
                media_type=seen.media_type,
                sha256="0" * 64,
                size_bytes=4,
                created_at=seen.created_at,
            )
        )
    month = timedelta(days=30)
    assert delete_expired(embedded.database, store, month) == 0
    with embedded.database.writing() as session:
        session.execute(update(Artifact).values(created_at=seen.created_at - timedelta(days=2)))
    assert delete_expired(embedded.database, store, month) == 1
    assert store.keys("artifacts") == published
    api = embedded.start_api()
    assert len(httpx.get(f"{api.url}/v1/runs/{run.id}/artifacts").json()["items"]) == 1
    assert delete_expired(embedded.database, store, timedelta(days=1)) == len(published) == 2
    assert store.keys("artifacts") == []
    gone = httpx.get(f"{api.url}/v1/runs/{run.id}/artifacts/predictor.safetensors")
    assert (gone.status_code, gone.json()["code"]) == (404, "artifact_not_found")


def test_what_a_late_writer_left_of_an_ended_pack_is_swept(embedded, store_settings, tmp_path) -> None:
    claim = claimed(embedded)
    store = open_store(Settings.model_validate(store_settings))
    late, live, foreign = (f"packs/{pack}/ab/00000001/step-1.pt" for pack in (claim.pack_id, 2, 99))
    embedded.submit(SHORT, publish=False, n=65)
    for key in (late, live, foreign):
        store.put(key, b"")
    settings = embedded.settings.model_copy(update=Settings.model_validate(store_settings).model_dump())
    housekeeping = Housekeeping(
        settings.model_copy(update={"data_dir": tmp_path / "swept"}),
        embedded.database,
        embedded.publisher,
        WorkerSlot(tmp_path / "swept"),
        store,
        lambda: 0,
    )
    housekeeping._sweep_store()
    assert store.keys("packs") == [late, live, foreign]
    with embedded.database.writing() as session:
        lifecycle.fail(session, claim, lifecycle.Failure("tried", "a test's"), is_shared=True)
    housekeeping._sweep_store()
    assert store.keys("packs") == [live, foreign]


@pytest.mark.faults
def test_a_store_that_is_away_delays_the_report_and_loses_nothing(embedded, tmp_path) -> None:
    """The store's folder is a file at first; training has ended, and the run waits for its artifact."""
    (tmp_path / "blocked").write_text("")
    worker = embedded.start_worker(store_url=(tmp_path / "blocked").as_uri())
    experiment = embedded.submit(SHORT, budget=KEEPING)
    embedded.wait(lambda: worker.has_said("artifacts.delayed"))
    assert embedded.reports() == {}
    (tmp_path / "blocked").unlink()
    assert embedded.wait_for_end(experiment) == "succeeded"
    embedded.check()
    assert [attempt.outcome for attempt in embedded.attempts()] == [AttemptOutcome.FINISHED]
    with pytest.raises(StoreUnavailableError):
        open_store(Settings(store_url=embedded.folder.joinpath("bfc.db").as_uri())).put("a/b", b"")
