"""Files of runs and webhooks through the client and the command, against the real API."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

import bfc_client
from bfc_client.answers import Artifact, ExperimentStatus
from bfc_client.artifacts import download_artifact, list_artifacts
from bfc_client.command_line.app import app
from bfc_client.errors import Conflict, DamagedDownload, NotFound, Unprocessable
from bfc_client.transport import ATTEMPTS
from tests.service.conftest import Api, migrated, serve, settings_for
from tests.service.test_artifacts import CONTENT, announced

URL = "https://lab.example.org/bfc"
RUN = "00000000-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("attachments")
    url = f"sqlite:///{folder / 'bfc.db'}"
    migrated(url)
    yield from serve(settings_for(url, folder, webhook_allow="*", webhook_secret="s" * 32))


@pytest.fixture
def client(api: Api) -> Iterator[bfc_client.Client]:
    with bfc_client.connect(str(api.client.base_url)) as client:
        yield client


@pytest.fixture
def bfc(api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("BFC_URL", str(api.client.base_url))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, [str(one) for one in arguments])


@pytest.fixture
def kept(api: Api) -> tuple[str, str]:
    """An experiment with one run that left a file: their ids."""
    experiment = api.submitted()
    claim = api.claim()
    run_id = announced(api, claim)
    api.finish(claim)
    api.finish_all()
    return experiment["id"], run_id


def artifact(name: str = "predictor.safetensors", content: bytes = CONTENT) -> dict:
    return {
        "run_id": RUN,
        "name": name,
        "media_type": "application/vnd.safetensors",
        "size_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "created_at": "2026-11-25T00:00:00Z",
        "expires_at": "2026-12-25T00:00:00Z",
    }


def test_files_are_listed_and_saved_as_they_are(client: bfc_client.Client, kept, tmp_path: Path) -> None:
    experiment_id, run_id = kept
    [found] = client.experiments.get(experiment_id).artifacts()
    assert (str(found.run_id), found.name, found.size_bytes) == (
        run_id,
        "predictor.safetensors",
        len(CONTENT),
    )
    assert client.artifacts(run_id) == [found]
    saved = client.download(found, tmp_path)
    assert saved == tmp_path / run_id / "predictor.safetensors"
    assert saved.read_bytes() == CONTENT
    written = saved.stat().st_mtime_ns
    assert client.download(found, tmp_path) == saved
    assert saved.stat().st_mtime_ns == written, "it is there already"
    saved.write_bytes(b"other bytes")
    assert client.download(found, tmp_path).read_bytes() == CONTENT
    assert [file.name for file in saved.parent.iterdir()] == ["predictor.safetensors"]
    with pytest.raises(NotFound):
        client.artifacts("00000000-0000-4000-8000-000000000000")


def test_bytes_that_are_not_the_file_s_are_never_kept(script, tmp_path: Path) -> None:
    script.answer(200, b"not these bytes")
    with pytest.raises(DamagedDownload, match="did not arrive"):
        download_artifact(script.transport(), Artifact.model_validate(artifact()), tmp_path)
    assert len(script.asked) == ATTEMPTS
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_a_download_is_repeated_until_it_is_whole(script, tmp_path: Path) -> None:
    script.answer(503, {"title": "later"})
    script.answer(200, CONTENT[:-1])
    script.drop()
    script.answer(200, CONTENT)
    saved = download_artifact(script.transport(), Artifact.model_validate(artifact()), tmp_path)
    assert saved.read_bytes() == CONTENT


def test_a_file_that_is_gone_is_not_asked_for_again(script, tmp_path: Path) -> None:
    script.answer(404, {"status": 404, "title": "gone"})
    with pytest.raises(NotFound):
        download_artifact(script.transport(), Artifact.model_validate(artifact()), tmp_path)
    assert len(script.asked) == 1


@pytest.mark.parametrize("name", ["../../secrets.txt", "/etc/passwd", "..", "a/b.pt", "C:\\x.pt", ".ssh"])
def test_a_server_cannot_name_a_file_outside_the_folder(script, name: str) -> None:
    script.answer(200, {"items": [artifact(name)]})
    with pytest.raises(ValidationError):
        list_artifacts(script.transport(), RUN)


def test_webhooks_are_added_listed_and_removed(client: bfc_client.Client, api: Api) -> None:
    experiment = client.experiments.get(api.submitted()["id"])
    assert experiment.webhooks() == []
    created = experiment.add_webhook(URL)
    assert created.secret.startswith("whsec_")
    [found] = experiment.webhooks()
    assert (found.id, found.url, found.status) == (created.id, URL, "waiting")
    assert not hasattr(found, "secret"), "it is shown once"
    with pytest.raises(Unprocessable, match="https"):
        experiment.add_webhook("http://lab.example.org/")
    experiment.remove_webhook(found.id)
    assert experiment.webhooks() == []
    with pytest.raises(NotFound):
        experiment.remove_webhook(found.id)
    for _ in range(5):
        experiment.add_webhook(URL)
    with pytest.raises(Conflict):
        experiment.add_webhook(URL)
    experiment.cancel()


def test_a_paused_experiment_is_known_and_not_over(client: bfc_client.Client, api: Api) -> None:
    experiment = client.experiments.get(api.submitted()["id"])
    api.client.post(f"/v1/experiments/{experiment.id}/pause")
    assert experiment.refresh().status is ExperimentStatus.PAUSED
    assert not experiment.status.is_terminal
    experiment.cancel()


def test_the_command_lists_and_saves_files(bfc, kept) -> None:
    experiment_id, run_id = kept
    assert run_id in bfc("artifacts", experiment_id).stdout
    [listed] = json.loads(bfc("artifacts", "latest", "--run", run_id, "--json").stdout)
    assert listed["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    saved = bfc("artifacts", experiment_id, "-o", "here")
    assert saved.exit_code == 0, saved.stderr
    assert Path(saved.stdout.strip()).read_bytes() == CONTENT
    [told] = json.loads(bfc("artifacts", experiment_id, "-o", "here", "--json").stdout)
    assert told["path"] == saved.stdout.strip()
    Path("file").touch()
    refused = bfc("artifacts", experiment_id, "-o", "file")
    assert (refused.exit_code, "cannot write to file" in refused.stderr) == (1, True)


def test_the_command_says_how_a_run_keeps_something(bfc, api: Api) -> None:
    experiment = api.submitted()
    api.finish_all()
    result = bfc("artifacts", experiment["id"])
    assert (result.exit_code, result.stdout) == (0, "")
    assert "keep_predictor" in result.stderr


def test_the_command_adds_lists_and_removes_webhooks(bfc, api: Api) -> None:
    experiment_id = api.submitted()["id"]
    assert "--add URL" in bfc("webhooks", experiment_id).stderr
    added = bfc("webhooks", experiment_id, "--add", URL)
    assert added.stdout.startswith("whsec_"), "the key alone, for a pipe"
    [found] = json.loads(bfc("webhooks", experiment_id, "--json").stdout)
    assert found["id"] in added.stderr
    assert URL in bfc("webhooks", experiment_id).stdout
    assert bfc("webhooks", experiment_id, "--remove", found["id"]).exit_code == 0
    assert bfc("webhooks", experiment_id, "--remove", found["id"]).exit_code == 3
    assert bfc("webhooks", experiment_id, "--add", "http://127.0.0.1/").exit_code == 2
    assert bfc("webhooks", experiment_id, "--add", URL, "--remove", found["id"]).exit_code == 2
    api.finish_all()
