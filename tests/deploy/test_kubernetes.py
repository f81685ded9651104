"""deploy/kubernetes: valid by Kubernetes' own schemas, confined, and in words that the code knows."""

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from migrations.upgrade import upgrade
from service.app import create_app
from service.config import Settings
from service.metrics import WorkCollector
from tests.deploy.test_compose import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
VERSION = "1.33"
DOCUMENTS = [
    (file.name, document)
    for file in sorted(FOLDER.glob("*.yaml"))
    for document in yaml.safe_load_all(file.read_text())
]
IDS = [f"{name}-{document['kind']}" for name, document in DOCUMENTS]
PODS = {
    document["metadata"]["name"]: document["spec"]["template"]["spec"]
    for _, document in DOCUMENTS
    if "template" in document["spec" if "spec" in document else "data"]
}


@pytest.mark.parametrize(("name", "document"), DOCUMENTS, ids=IDS)
def test_is_valid_by_the_schemas_of_kubernetes(name, document) -> None:
    kubernetes_validate.validate(document, VERSION, strict=True)


def test_the_schemas_do_refuse() -> None:
    document = next(document for name, document in DOCUMENTS if name == "worker-cpu.yaml")
    for change in ({"replicaz": 1}, {"replicas": "one"}):
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(document | {"spec": document["spec"] | change}, VERSION, strict=True)


def test_every_part_is_there() -> None:
    assert set(PODS) == {"bfc-api", "bfc-migrations", "bfc-worker-cpu", "bfc-worker-gpu"}


@pytest.mark.parametrize("name", sorted(PODS))
def test_pods_are_confined(name) -> None:
    pod = PODS[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in container["resources"]["limits"]
    # What is written is written where the root's being read-only does not matter.
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/var/lib/bfc", "/tmp"}


@pytest.mark.parametrize("name", sorted(PODS))
def test_commands_are_those_of_the_images_and_settings_are_read(name) -> None:
    (container,) = PODS[name]["containers"]
    image = container["image"].removeprefix("bfc-").partition(":")[0]
    stage = (ROOT / "Dockerfile").read_text().split(f" AS {image}\n")[1].split("\nFROM ")[0]
    assert yaml.safe_load(re.search(r"^CMD (\[.*\])$", stage, re.MULTILINE)[1]) == container["command"]
    known = {f"BFC_{field.upper()}" for field in Settings.model_fields}
    assert {variable["name"] for variable in container.get("env", [])} <= known


def test_shared_settings_hold_together(tmp_path) -> None:
    (shared,) = (document["data"] for _, document in DOCUMENTS if document["kind"] == "ConfigMap")
    assert not [name for name in shared if re.search("PASSWORD|SECRET|KEY", name)]
    for name, pod in PODS.items():
        (container,) = pod["containers"]
        given = shared | {variable["name"]: variable["value"] for variable in container.get("env", [])}
        settings = Settings.model_validate(
            {key.removeprefix("BFC_").lower(): value for key, value in given.items()}
        )
        assert settings.auth == "keys"
        if "worker" in name:
            assert pod["terminationGracePeriodSeconds"] > 2 * settings.drain_grace.total_seconds()
        gpus = container["resources"]["limits"].get("nvidia.com/gpu", "0")
        assert (settings.device == "cuda", settings.queue == "train.gpu") == (gpus == "1", gpus == "1")


def test_the_api_is_probed_where_it_answers() -> None:
    (container,) = PODS["bfc-api"]["containers"]
    paths = create_app(Settings(database_url="sqlite://")).openapi()["paths"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] in paths
        assert container[probe]["httpGet"]["port"] == container["ports"][0]["name"]


def test_autoscalers_follow_a_number_that_is_measured(tmp_path: Path) -> None:
    settings = Settings(database_url=f"sqlite:///{tmp_path / 'bfc.db'}", network_queue="train.gpu")
    app = create_app(settings)
    upgrade(app.state.database)
    samples = [
        sample
        for family in WorkCollector(app.state.database, settings).collect()
        for sample in family.samples
    ]
    app.state.database.dispose()
    known = {(sample.name, sample.labels.get("queue")) for sample in samples}
    scalers = [document for _, document in DOCUMENTS if document["kind"] == "HorizontalPodAutoscaler"]
    assert {scaler["spec"]["scaleTargetRef"]["name"] for scaler in scalers} == {
        name for name in PODS if "worker" in name
    }
    for scaler in scalers:
        external = scaler["spec"]["metrics"][0]["external"]
        metric = external["metric"]
        assert (metric["name"], metric["selector"]["matchLabels"]["queue"]) in known
        (container,) = PODS[scaler["spec"]["scaleTargetRef"]["name"]]["containers"]
        given = {variable["name"]: variable["value"] for variable in container["env"]}
        assert external["target"]["averageValue"] == given["BFC_CONCURRENCY"]
        assert metric["selector"]["matchLabels"]["queue"] == given["BFC_QUEUE"]
