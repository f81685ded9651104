"""Files of runs over HTTP: whose they are, when they are seen, and names that would lead elsewhere."""

import hashlib
from collections.abc import Iterator

import pytest

from bfc_client.command_line.doctor import _server
from bfc_client.settings import ClientSettings
from service.models import Artifact, Scope
from service.runs import lifecycle
from service.runs.claims import AnnouncedArtifact, announce_artifacts
from service.store.opening import open_store
from tests.service.conftest import SMALL, Api, report, serve, settings_for
from tests.service.test_security import key_of

CONTENT = b"eight bytes of header and weights"


@pytest.fixture(scope="module")
def guarded(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    yield from serve(settings_for(database_url, tmp_path_factory.mktemp("data"), auth="keys"))


def announced(api: Api, claim: lifecycle.Claim, *, upload: bool = True) -> str:
    """Announce and upload one file of a claim's first run; its run's id."""
    run_id = claim.runs[0].id
    key = f"artifacts/{run_id}/{claim.fence:08d}/predictor.safetensors"
    artifact = AnnouncedArtifact(
        run_id,
        "predictor.safetensors",
        key,
        "application/vnd.safetensors",
        hashlib.sha256(CONTENT).hexdigest(),
        len(CONTENT),
    )
    with api.database.writing() as session:
        announce_artifacts(session, claim, [artifact])
        announce_artifacts(session, claim, [artifact])
    if upload:
        open_store(api.settings).put(key, CONTENT)
    return str(run_id)


def test_a_file_is_its_owner_s_and_seen_once_the_run_is_reported(guarded: Api) -> None:
    ada, bob, admin = key_of(guarded, "ada"), key_of(guarded, "bob"), key_of(guarded, "root", Scope.ADMIN)
    experiment = guarded.post(headers=ada).json()
    claim = guarded.claim()
    run_id = announced(guarded, claim)
    listing, file = f"/v1/runs/{run_id}/artifacts", f"/v1/runs/{run_id}/artifacts/predictor.safetensors"
    assert guarded.get(listing, headers=ada).json() == {"items": []}
    assert guarded.get(file, headers=ada).json()["code"] == "artifact_not_found"
    guarded.finish(claim, report)
    (item,) = guarded.get(listing, headers=ada).json()["items"]
    assert (item["size_bytes"], item["path"]) == (len(CONTENT), file)
    for reader in (ada, admin):
        answer = guarded.get(file, headers=reader)
        assert (answer.status_code, answer.content) == (200, CONTENT)
        assert answer.headers["content-disposition"] == 'attachment; filename="predictor.safetensors"'
    for path in (listing, file):
        refused = guarded.get(path, headers=bob)
        assert (refused.status_code, refused.json()["code"]) == (403, "not_the_owner")
        assert guarded.get(path).status_code == 401
    guarded.finish_all()
    # Whoever asks for the same cells is given the same runs, and what they left.
    again = guarded.post(headers=bob, params={"force": False}).json()
    assert again["id"] != experiment["id"]
    assert guarded.get(file, headers=bob).content == CONTENT


@pytest.mark.parametrize(
    "name",
    ["..%2f..%2fbfc.db", "%2e%2e", "x.pkl", "predictor.safetensors%00", "a" * 200 + ".pt", "C:\\x"],
)
def test_a_name_is_compared_and_never_becomes_a_path(api: Api, name: str) -> None:
    api.submitted()
    claim = api.claim()
    run_id = announced(api, claim)
    api.finish(claim)
    answer = api.get(f"/v1/runs/{run_id}/artifacts/{name}")
    assert answer.status_code in {404, 405}
    assert CONTENT not in answer.content


def test_a_file_that_the_store_has_lost_is_not_found(api: Api) -> None:
    api.submitted()
    claim = api.claim()
    run_id = announced(api, claim)
    api.finish(claim)
    with api.database.reading() as session:
        keys = [row.uri for row in session.query(Artifact).filter(Artifact.fence == claim.fence)]
    for key in keys:
        open_store(api.settings).delete(key)
    answer = api.get(f"/v1/runs/{run_id}/artifacts/predictor.safetensors")
    assert (answer.status_code, answer.json()["code"]) == (404, "artifact_not_found")
    unknown = api.get(f"/v1/runs/{claim.experiment_id}/artifacts")
    assert unknown.json()["code"] == "run_not_found"


def test_keeping_predictors_is_planned_with_a_word_on_what_leaves_none(api: Api) -> None:
    learners = [{"kind": "joint"}, {"kind": "kernel_ridge", "kernel": {"kind": "rbf"}}]
    body = SMALL | {"learners": learners, "budget": {"keep_predictor": True}}
    plan = api.post(body, params={"dry_run": True}).json()
    assert [warning for warning in plan["warnings"] if "kernel_ridge will leave no artifact" in warning]


def test_a_store_that_is_away_is_told_of_where_people_look(database_url: str, tmp_path) -> None:
    (tmp_path / "blocked").write_text("a file where the folder should be")
    settings = settings_for(database_url, tmp_path, store_url=(tmp_path / "blocked").as_uri())
    for api in serve(settings):
        check = api.get("/readyz").json()["checks"]["store"]
        assert (check["ok"], check["detail"]) == (False, "the store cannot be written and read")
        findings = {
            finding.subject: finding for finding in _server(str(api.client.base_url), ClientSettings())
        }
        assert findings["server: store"].state == "broken"
        assert "BFC_STORE_URL" in findings["server: store"].advice
        api.submitted()
        claim = api.claim()
        run_id = announced(api, claim, upload=False)
        api.finish(claim)
        answer = api.get(f"/v1/runs/{run_id}/artifacts/predictor.safetensors")
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert answer.headers["retry-after"] == "10"
