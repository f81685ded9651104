"""Workers on two hosts that share PostgreSQL, Redis and a bucket, and nothing else."""

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from service.config import Settings
from service.models import AttemptOutcome, PackStatus
from service.store.opening import open_store
from tests.worker.hosts import CannotIsolateError, Host
from tests.worker.test_ahead_faults import one_waits
from tests.worker.test_faults import LONG, undisturbed

pytestmark = [
    pytest.mark.faults,
    pytest.mark.parametrize(
        "deployment", [pytest.param("postgres+redis", marks=pytest.mark.servers)], indirect=True
    ),
]


@pytest.fixture
def new_host() -> Iterator[Callable[[], Host]]:
    made: list[Host] = []

    def make() -> Host:
        try:
            made.append(Host())
        except CannotIsolateError as error:
            pytest.skip(f"no network namespaces here: {error}")
        return made[-1]

    yield make
    for host in made:
        host.close()


def start_on(host: Host, deployment, bucket):
    """A worker that knows the servers by the host's addresses of them, with a disk of its own."""

    def there(url: str) -> str:
        place = urlsplit(url)
        assert place.port is not None
        return url.replace(f"127.0.0.1:{place.port}", host.reach(place.port))

    return deployment.start_worker(
        host.name,
        inside=host.inside,
        **bucket
        | {
            "store_endpoint": there(bucket["store_endpoint"]),
            "store_timeout": "3",
            "database_url": there(deployment.settings.database_url),
            "broker_url": there(deployment.settings.broker_url),
        },
    )


def test_a_host_that_is_cut_off_is_replaced_and_writes_nothing_more(deployment, bucket, new_host) -> None:
    first, second = new_host(), new_host()
    victim = start_on(first, deployment, bucket)
    learner = LONG | {"steps_per_stage": 5000}
    experiment = deployment.submit(learner, budget={"test_samples": 64, "keep_predictor": True})
    deployment.wait(lambda: any("s3://" in (pack.checkpoint_uri or "") for pack in deployment.packs()))
    first.pull_cable()
    heir = start_on(second, deployment, bucket)
    deployment.wait(
        lambda: [(pack.fence, pack.status) for pack in deployment.packs()] == [(2, PackStatus.RUNNING)]
    )
    assert deployment.wait_for_end(experiment) == "succeeded"
    assert victim.process.poll() is None
    assert not victim.has_said("attempt.fenced"), "it cannot know yet"
    first.plug_in()
    deployment.wait(lambda: victim.has_said("attempt.fenced") or victim.has_said("pack.lost"))
    deployment.check()
    assert heir.has_said("checkpoint.restored")
    assert [(a.outcome, a.error_code) for a in deployment.attempts()] == [
        (AttemptOutcome.EXPIRED, "lease_expired"),
        (AttemptOutcome.FINISHED, None),
    ]
    assert [a.worker_id.split("/")[0] for a in deployment.attempts()] == [first.name, second.name]
    reports = deployment.reports()
    assert {report.fence for report in reports.values()} == {2}
    found = [reports[run.id].nmse for run in deployment.runs(experiment)]
    assert found == undisturbed(deployment, experiment)
    # Nothing of the victim's in the store, and one predictor a run.
    store = open_store(Settings.model_validate(bucket))
    assert store.keys("artifacts") == sorted(
        f"artifacts/{run_id}/1-00000002/predictor.safetensors" for run_id in reports
    )


def test_a_host_that_is_cut_off_loses_what_waited_without_a_mark(deployment, bucket, new_host) -> None:
    first, second = new_host(), new_host()
    pair = one_waits(deployment, start=lambda: start_on(first, deployment, bucket))
    first.pull_cable()
    pair.go_on()
    start_on(second, deployment, bucket)
    for experiment in (pair.first, pair.second):
        assert deployment.wait_for_end(experiment) == "succeeded"
    first.plug_in()
    for pack in deployment.packs():
        lost = f"pack_id={pack.id} fence=1"
        deployment.wait(
            lambda lost=lost: (
                pair.worker.has_said(f"attempt.fenced {lost}") or pair.worker.has_said(f"pack.lost {lost}")
            )
        )
    pair.finish()
    assert [pack.crash_count for pack in deployment.packs()] == [1, 0]
    assert {report.fence for report in deployment.reports().values()} == {2}


def test_hosts_share_the_work(deployment, bucket, new_host) -> None:
    hosts = [new_host(), new_host()]
    for host in hosts:
        start_on(host, deployment, bucket)
    experiments = [deployment.submit(LONG, n=64 + extra, seeds=1) for extra in range(6)]
    for experiment in experiments:
        assert deployment.wait_for_end(experiment) == "succeeded"
    deployment.check()
    assert len(deployment.reports()) == 6
    assert {a.worker_id.split("/")[0] for a in deployment.attempts()} == {host.name for host in hosts}
