"""The API at its door: what is accepted, refused, stored and answered."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from bfc_core.run import execute_pack
from bfc_core.specs import Report
from migrations.upgrade import upgrade
from service.app import create_app
from service.config import Settings
from service.database import Database, open_database
from service.examples import EXPERIMENTS, SMALLEST
from service.models import Experiment, Run
from service.runs import lifecycle


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path, database_url=f"sqlite:///{tmp_path}/bfc.db", pack_memory_limit_bytes=2**30
    )


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = open_database(settings.database_url)
    upgrade(database)
    yield database
    database.dispose()


@pytest.fixture
def api(settings: Settings, database: Database) -> Iterator[TestClient]:
    with TestClient(
        create_app(settings), base_url="http://127.0.0.1", raise_server_exceptions=False
    ) as client:
        yield client


def work_off(database: Database, settings: Settings) -> None:
    """Do what a worker does, in this process."""
    while True:
        with database.writing() as session:
            claim = lifecycle.claim(
                session, queue=settings.queue, worker_id="test", device="cpu", lease=settings.lease
            )
        if claim is None:
            return
        reports = execute_pack([run.spec for run in claim.runs])
        answers: dict[object, Report] = {
            run.id: report for run, report in zip(claim.runs, reports, strict=True)
        }
        with database.writing() as session:
            lifecycle.complete(session, claim, answers)


def stored(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(Experiment)) or 0


def test_an_experiment_goes_in_and_a_comparison_comes_out(
    api: TestClient, database: Database, settings: Settings
) -> None:
    accepted = api.post("/v1/experiments", json=SMALLEST)
    assert accepted.status_code == 202
    experiment = accepted.json()
    path = accepted.headers["Location"]
    assert path == f"/v1/experiments/{experiment['id']}"
    assert experiment["status"] == "queued"
    assert experiment["runs"]["total"] == 6

    work_off(database, settings)
    done = api.get(path).json()
    assert (done["status"], done["progress"], done["runs"]["succeeded"]) == ("succeeded", 1.0, 6)

    runs = api.get(f"{path}/runs?limit=4").json()
    rest = api.get(f"{path}/runs", params={"limit": 4, "cursor": runs["next_cursor"]}).json()
    assert len(runs["items"]) == 4
    assert len(rest["items"]) == 2
    assert rest["next_cursor"] is None
    assert api.get(f"/v1/runs/{runs['items'][0]['id']}").json() == runs["items"][0]

    comparison = api.get(f"{path}/comparison").json()
    assert comparison["baseline"] == "algorithm_1"
    by_label = {cell["label"]: cell for cell in comparison["cells"]}
    assert set(by_label) == {"algorithm_1", "layerwise", "matched_compute_control"}
    seeds = [run["metrics"]["nmse"] for run in runs["items"] if run["label"] == "algorithm_1"]
    assert by_label["algorithm_1"]["nmse"]["median"] == pytest.approx(sum(seeds) / 2)
    assert comparison["backward_gain"][0]["level"] == 2

    for name in ("comparison", "feature-error"):
        assert api.get(f"{path}/charts/{name}.svg").text.startswith("<svg")
        assert api.get(f"{path}/charts/{name}.vl.json").json()["$schema"]
    assert api.get(f"{path}/charts/nonsense.svg").status_code == 404
    manifest = api.get(f"{path}/manifest").json()
    assert len(manifest["runs"]) == len(manifest["results"]) == 6


def test_results_are_the_same_in_every_format(
    api: TestClient, database: Database, settings: Settings
) -> None:
    path = api.post("/v1/experiments", json=SMALLEST | {"name": "=HYPERLINK(1)"}).headers["Location"]
    work_off(database, settings)
    lines = list(csv.DictReader(io.StringIO(api.get(f"{path}/results.csv").text)))
    table = pyarrow.parquet.read_table(io.BytesIO(api.get(f"{path}/results.parquet").content)).to_pylist()
    objects = [json.loads(line) for line in api.get(f"{path}/results.ndjson").text.splitlines()]
    assert table == objects
    assert [float(line["nmse"]) for line in lines] == [row["nmse"] for row in table]
    assert lines[0]["experiment"] == "'=HYPERLINK(1)"
    assert table[0]["experiment"] == "=HYPERLINK(1)"


def test_events_tell_the_story_and_end(api: TestClient, database: Database, settings: Settings) -> None:
    path = api.post("/v1/experiments", json=SMALLEST).headers["Location"]
    work_off(database, settings)
    page = api.get(f"{path}/events?limit=500").json()["items"]
    ids = [event["id"] for event in page]
    assert ids == sorted(ids)
    assert {"run.state", "experiment.progress"} <= {event["name"] for event in page}
    stream = api.get(f"{path}/events", headers={"Accept": "text/event-stream", "Last-Event-ID": str(ids[0])})
    assert stream.headers["content-type"].startswith("text/event-stream")
    seen = [line.removeprefix("id: ") for line in stream.text.splitlines() if line.startswith("id: ")]
    assert [int(event_id) for event_id in seen[:-1]] == ids[1:]
    assert "event: end" in stream.text


def test_every_example_of_the_document_is_accepted(api: TestClient) -> None:
    for example in EXPERIMENTS.values():
        assert api.post("/v1/experiments", json=example["value"]).status_code == 202


def test_a_dry_run_plans_and_stores_nothing(api: TestClient, database: Database) -> None:
    answer = api.post("/v1/experiments?dry_run=true", json=SMALLEST)
    plan = answer.json()
    assert answer.status_code == 200
    assert (plan["cells"], plan["reused_cells"], plan["packs"]) == (6, 0, 1)
    assert plan["estimated_seconds"] > 0
    assert {learner["label"] for learner in plan["learners"]} == {
        "algorithm_1",
        "layerwise",
        "matched_compute_control",
    }
    assert plan["spec"]["learners"][0]["step_size"] == 3e-3
    assert stored(database) == 0


KERNEL = {"kind": "kernel_ridge", "kernel": {"kind": "rbf"}}


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"n": -4}, "#/n"),
        ({"n": [64, -4]}, "#/n/1"),
        ({"n": 10**30}, "#/n"),
        ({"dim": "six"}, "#/dim"),
        ({"learners": [{"kind": "magic"}]}, "#/learners/0/kind"),
        ({"learners": [{"kind": "algorithm_1"}, {"kind": "joint", "width": 0}]}, "#/learners/1/width"),
        ({"learners": [{"kind": "joint", "widht": 3}]}, "#/learners/0/widht"),
        ({"learners": [{"kind": "kernel_ridge"}]}, "#/learners/0/kernel"),
        ({"learners": [{"kind": "kernel_ridge", "kernel": {"kind": "x"}}]}, "#/learners/0/kernel/kind"),
        ({"target": {"kind": "hierarchical_quadratic", "alphas": [1, "x"]}}, "#/target/alphas/1"),
        ({"surprise/~": 1}, "#/surprise~1~0"),
        ({"n": list(range(8, 208)), "dim": list(range(6, 106)), "seeds": 10}, "#"),
        ({"learners": [{"kind": "algorithm_1"}, KERNEL], "n": 60_000}, "#/learners/1"),
    ],
)
def test_bad_input_is_refused_with_a_pointer_and_nothing_is_stored(
    api: TestClient, database: Database, changes: dict[str, object], pointer: str
) -> None:
    answer = api.post("/v1/experiments", json=SMALLEST | changes)
    problem = answer.json()
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["errors"][0]["pointer"] == pointer
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    assert stored(database) == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"name": "' + b"x" * 2**20 + b'"}', 413),
        (json.dumps(SMALLEST).replace("0.1", "NaN").encode(), 422),
        (json.dumps(SMALLEST).replace("0.1", "1e999").encode(), 422),
        (b"null", 422),
        (b"", 422),
    ],
)
def test_hostile_bodies_are_problems(api: TestClient, database: Database, body: bytes, status: int) -> None:
    answer = api.post("/v1/experiments", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in answer.text
    assert ".py" not in answer.text
    assert stored(database) == 0


def test_a_chunked_body_is_bounded_too(api: TestClient) -> None:
    answer = api.post("/v1/experiments", content=(b"x" * 65536 for _ in range(20)))
    assert answer.status_code == 413


def test_one_key_is_one_experiment_however_often_it_is_posted(api: TestClient, database: Database) -> None:
    def post(_: int) -> tuple[int, str, str | None]:
        answer = api.post("/v1/experiments", json=SMALLEST, headers={"Idempotency-Key": "k"})
        return answer.status_code, answer.json()["id"], answer.headers.get("Idempotency-Replayed")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(24)))
    assert {status for status, _, _ in answers} == {202}
    assert len({experiment for _, experiment, _ in answers}) == 1
    assert [replayed for _, _, replayed in answers].count(None) == 1
    assert stored(database) == 1
    other = api.post("/v1/experiments", json=SMALLEST | {"n": 65}, headers={"Idempotency-Key": "k"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_cancel_ends_queued_runs_and_is_refused_afterwards(api: TestClient, database: Database) -> None:
    path = api.post("/v1/experiments", json=SMALLEST).headers["Location"]
    run = api.get(f"{path}/runs").json()["items"][0]
    assert api.post(f"/v1/runs/{run['id']}/cancel").json()["status"] == "cancelled"
    cancelled = api.post(f"{path}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (202, "cancelled")
    again = api.post(f"{path}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "already_finished")
    with database.reading() as session:
        assert {run.status.value for run in session.scalars(select(Run))} == {"cancelled"}


def test_pages_etags_and_waiting(api: TestClient) -> None:
    paths = [api.post("/v1/experiments", json=SMALLEST).headers["Location"] for _ in range(3)]
    first = api.get("/v1/experiments?limit=2").json()
    second = api.get("/v1/experiments", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    listed = [item["links"]["self"] for item in first["items"] + second["items"]]
    assert listed == paths[::-1]
    assert api.get("/v1/experiments?cursor=%00junk").status_code == 422
    one = api.get(paths[0])
    assert api.get(paths[0], headers={"If-None-Match": one.headers["ETag"]}).status_code == 304
    api.post(f"{paths[0]}/cancel")
    assert api.get(f"{paths[0]}?wait=30", headers={"If-None-Match": one.headers["ETag"]}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/experiments/00000000-0000-0000-0000-000000000000", 404),
        ("GET", "/v1/experiments/../../etc/passwd", 404),
        ("GET", "/v1/experiments/junk", 404),
        ("GET", "/v1/runs/00000000-0000-0000-0000-000000000000", 404),
        ("GET", "/v1/learners/magic", 404),
        ("DELETE", "/v1/experiments", 405),
        ("GET", "/nowhere", 404),
        ("GET", "/v1/experiments?limit=0", 422),
    ],
)
def test_refusals_share_one_shape(api: TestClient, method: str, path: str, status: int) -> None:
    answer = api.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    fields = {"type", "title", "status", "detail", "instance", "code", "request_id", "errors"}
    assert set(answer.json()) == fields


def test_the_catalogue_has_every_kind_with_its_schema(api: TestClient) -> None:
    learners = {item["kind"]: item for item in api.get("/v1/learners").json()["items"]}
    assert set(learners) >= {"algorithm_1", "joint", "layerwise", "kernel_ridge", "recursive_feature_machine"}
    assert learners["joint"]["json_schema"]["properties"]["width"]["default"] == 40
    assert api.get("/v1/targets/worked_example_2").json()["json_schema"]["properties"]["alpha"]


def test_health_tells_the_truth(api: TestClient) -> None:
    assert api.get("/healthz").json() == {"status": "ok"}
    ready = api.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["checks"]["migrations"]["ok"]
    assert not ready.json()["checks"]["workers"]["ok"]


def test_the_documentation_page_needs_nothing_from_elsewhere(api: TestClient) -> None:
    assert api.get("/").url.path == "/docs"
    page = api.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert "http" not in page.text
    assert "<script>" not in page.text
    for path in ("/static/vendor/swagger-ui/swagger-ui-bundle.js", "/static/js/api-docs.js"):
        assert api.get(path).status_code == 200


def test_vendored_files_are_what_their_list_says() -> None:
    folder = Path("service/ui/static/vendor/swagger-ui")
    for line in (folder / "VENDORED.md").read_text().splitlines():
        if line.startswith("- `"):
            name, digest = line.removeprefix("- `").split("` ")
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_the_document_has_named_operations_one_tag_each(api: TestClient) -> None:
    document = api.get("/openapi.json").json()
    names = []
    for operations in document["paths"].values():
        for operation in operations.values():
            assert len(operation["tags"]) == 1
            names.append(operation["operationId"])
    assert len(set(names)) == len(names)
    assert '"d"' not in json.dumps(document["components"])
