"""docker-compose.yml: valid, confined, without passwords, and every command of ours works natively."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import bfc_client
from bfc_client.errors import BfcClientError
from service.config import Settings

ROOT = Path(__file__).parents[2]
BROKER = "amqp://guest:guest@127.0.0.1:5672//"
OURS = ("api", "migrations", "worker", "worker-gpu")
PASSWORDS = {"BFC_POSTGRES_PASSWORD": "correcthorse", "BFC_BROKER_PASSWORD": "batterystaple"}


@pytest.fixture(scope="module")
def document():
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def composed(docker_compose, *arguments, **environment):
    """Run docker-compose with nothing of this machine's .env in it."""
    return subprocess.run(
        [
            docker_compose,
            "--project-directory",
            str(ROOT),
            "--env-file",
            str(ROOT / ".env.example"),
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.getenv("PATH", ""), "HOME": "/nonexistent", **environment},
        check=False,
    )


@pytest.mark.parametrize("profiles", ["rabbitmq", "redis", "rabbitmq,gpu"])
def test_the_composition_is_valid_with_every_profile(docker_compose, profiles):
    result = composed(docker_compose, "config", COMPOSE_PROFILES=profiles, **PASSWORDS)
    assert result.returncode == 0, result.stderr
    services = yaml.safe_load(result.stdout)["services"]
    assert set(services) >= {"api", "worker", "migrations", "postgres", *profiles.split(",")} - {"gpu"}
    url = services["api"]["environment"]["BFC_DATABASE_URL"]
    assert url == "postgresql+psycopg://bfc:correcthorse@postgres:5432/bfc"


def test_the_broker_is_chosen_by_the_lines_of_the_example(docker_compose):
    redis = {"COMPOSE_PROFILES": "redis", "BFC_BROKER_SCHEME": "redis", "BFC_BROKER_HOST": "redis"}
    for choice, url in (
        (redis, "redis://bfc:batterystaple@redis/"),
        ({}, "amqp://bfc:batterystaple@rabbitmq/"),
    ):
        result = composed(docker_compose, "config", **choice, **PASSWORDS)
        assert yaml.safe_load(result.stdout)["services"]["worker"]["environment"]["BFC_BROKER_URL"] == url


@pytest.mark.parametrize("absent", sorted(PASSWORDS))
def test_without_a_password_nothing_starts(docker_compose, absent):
    result = composed(
        docker_compose, "config", **{name: text for name, text in PASSWORDS.items() if name != absent}
    )
    assert result.returncode != 0
    assert absent in result.stderr
    assert "set it in .env" in result.stderr


def test_no_password_is_written_down():
    for name in ("docker-compose.yml", "Dockerfile", ".env.example"):
        for line in (ROOT / name).read_text().splitlines():
            given = re.match(r"#?\s*\w*PASS\w*\s*[=:]\s*(\S+)", line.strip())
            assert given is None or given[1].startswith("${"), line


def test_ours_run_confined(document):
    for name in OURS:
        service = document["services"][name]
        assert service["user"] == "10001:10001", name
        assert service["read_only"] is True, name
        assert service["tmpfs"] == ["/tmp"], name
        assert service["cap_drop"] == ["ALL"], name


def test_migrations_come_first_and_once(document):
    services = document["services"]
    assert services["migrations"]["restart"] == "no"
    assert services["migrations"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    for name in ("api", "worker", "worker-gpu"):
        assert services[name]["depends_on"]["migrations"]["condition"] == "service_completed_successfully"


def test_every_setting_is_one_that_is_read(document):
    known = {f"BFC_{name.upper()}" for name in Settings.model_fields}
    for name in OURS:
        assert set(document["services"][name]["environment"]) <= known, name


def test_the_image_s_commands_are_those_of_the_composition(document):
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    commands = {
        match[1]: yaml.safe_load(command[1])
        for stage in stages
        if (match := re.match(r"\S+ AS (\S+)", stage))
        and (command := re.search(r"^CMD (\[.*\])$", stage, re.MULTILINE))
    }
    assert commands == {name: document["services"][name]["command"] for name in OURS}


def test_every_folder_that_an_image_needs_is_sent_to_the_builder():
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert sent == copied
    assert all((ROOT / name).exists() for name in sent)


def test_redis_asks_for_the_password(document, tmp_path):
    """The command of the composition, on another port and folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shell, flag, script = document["services"]["redis"]["command"]
    password = {"BFC_BROKER_PASSWORD": "batterystaple", "PATH": os.getenv("PATH", "")}
    try:
        server = subprocess.Popen(
            [shell, flag, script.replace("$$", "$").replace("redis-server", f"redis-server --port {port}")],
            cwd=tmp_path,
            env=password,
            stdout=subprocess.DEVNULL,
        )
        asked = ["redis-cli", "-p", port, "--no-auth-warning"]
        wait_until(
            lambda: b"NOAUTH" in subprocess.run([*asked, "ping"], capture_output=True, check=False).stdout
        )
        check = document["services"]["redis"]["healthcheck"]["test"][1].replace("$$", "$")
        healthy = subprocess.run(
            ["sh", "-c", check.replace("redis-cli", f"redis-cli -p {port}")], env=password, check=False
        )
        assert healthy.returncode == 0
    finally:
        server.terminate()
        server.wait(10)


@pytest.mark.servers
def test_the_commands_of_the_composition_carry_an_experiment(document, database_url, broker_prefix, tmp_path):
    """Migrations, API and worker as the YAML starts them, on the local PostgreSQL and RabbitMQ."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    places = {
        "BFC_DATABASE_URL": database_url,
        "BFC_BROKER_URL": BROKER,
        "BFC_BROKER_PREFIX": broker_prefix,
        "BFC_DATA_DIR": str(tmp_path),
        "BFC_CONCURRENCY": "1",
        "BFC_LOG_LEVEL": "INFO",
        "BFC_PACK_MEMORY_LIMIT_BYTES": "4294967296",
        "BFC_QUEUE": "train.cpu",
        "BFC_NETWORK_QUEUE": "",
        "BFC_NETWORK_PACK_BYTES": "",
        "BFC_AUTH": document["services"]["api"]["environment"]["BFC_AUTH"],
    }
    binaries = Path(sys.executable).parent

    def start(name):
        service = document["services"][name]
        command = [port if part == "8000" else part for part in service["command"]]
        environment = {key: places[key] for key in service["environment"]} | {
            "BFC_BROKER_PREFIX": broker_prefix
        }
        with (tmp_path / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [str(binaries / command[0]), *command[1:]],
                cwd=tmp_path,
                env=environment | {"PATH": f"{binaries}:{os.getenv('PATH', '')}", "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    assert start("migrations").wait(60) == 0, (tmp_path / "migrations.log").read_text()
    made = subprocess.run(
        [
            sys.executable,
            "-m",
            "service.api_keys",
            "create",
            "--owner",
            "me",
            "--scope",
            "read",
            "--scope",
            "submit",
        ],
        env={"BFC_DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=True,
    )
    running = [start("api"), start("worker")]
    try:
        with bfc_client.connect(f"http://127.0.0.1:{port}", token=made.stdout.strip()) as client:
            wait_until(lambda: is_ready(client), 60, lambda: logs(tmp_path))
            spec = yaml.safe_load((ROOT / "examples" / "smallest.yaml").read_text())
            experiment = client.experiments.create(spec).wait(timeout=180)
            assert experiment.status == "succeeded", (experiment.runs("failed"), logs(tmp_path))
            assert len(experiment.results()) == 8
            health = document["services"]["api"]["healthcheck"]["test"]
            probe_command = [sys.executable, *(part.replace(":8000", f":{port}") for part in health[2:])]
            assert subprocess.run(probe_command, check=False).returncode == 0
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        endings = [process.wait(60) for process in running]
    # uvicorn ends in order and then by the signal that asked it to.
    assert endings[0] in {0, -signal.SIGTERM}, logs(tmp_path)
    assert endings[1] == 0, logs(tmp_path)


def is_ready(client):
    try:
        return client.readiness()[0]
    except BfcClientError:
        return False


def logs(folder):
    return "\n".join(f"{path.name}:\n{path.read_text()[-3000:]}" for path in sorted(folder.glob("*.log")))


def wait_until(condition, seconds=10.0, explain=lambda: ""):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.1)
