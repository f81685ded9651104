"""/metrics for Prometheus: the state of the work from the database, the API's own latency from this process.

What comes from the database is the same whichever API process is asked. What is counted is summed anew for each
scrape (``service.runs.tallies``), so that no counter falls when another process answers the next one; what waits and
who works is read at most every five seconds. No label has an id, an n or a dim: the number of series does not grow
with the work.
"""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from service.config import Settings
from service.database import Database, database_now
from service.events import Feeds
from service.health import WORKER_SILENCE
from service.models import Pack, PackStatus, RunStatus, TallyName, Worker
from service.models.pack import is_waiting
from service.runs.cell import code_version
from service.runs.tallies import MEGA, MICROSECONDS, Key, read_tallies

CACHE_SECONDS = 5.0
MOST_SHARE = 20
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)

Tallies = Mapping[Key, tuple[int, int]]

router = APIRouter()


class Metrics:
    """The registry of one application."""

    def __init__(self, database: Database, settings: Settings, feeds: Feeds) -> None:
        self.registry = CollectorRegistry()
        self._seconds = Histogram(
            "bfc_http_request_duration_seconds",
            "From the first byte of a request to the last of its answer",
            ["method", "route", "status_class"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.registry.register(WorkCollector(database, settings))
        self.registry.register(FeedCollector(feeds))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Note one answered request."""
        self._seconds.labels(method, route, f"{status // 100}xx").observe(seconds)


class FeedCollector(Collector):
    """Who watches event streams of this process."""

    def __init__(self, feeds: Feeds) -> None:
        self._feeds = feeds

    def collect(self) -> Iterator[Metric]:
        """Yield the one family."""
        yield GaugeMetricFamily("bfc_sse_clients", "Clients of event streams", value=self._feeds.streams)


class WorkCollector(Collector):
    """Everything that the database knows."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._lock = threading.Lock()
        self._gauges: list[Metric] = []
        self._gauges_until = 0.0
        self._away_until = 0.0

    def collect(self) -> Iterable[Metric]:
        """Yield every family; with the database away only that it is away."""
        with self._lock:
            if time.monotonic() < self._away_until:
                return [_up(0)]
            try:
                with self._database.reading() as session:
                    if time.monotonic() >= self._gauges_until:
                        self._read_gauges(session)
                    return [_up(1), *self._counters(session), *self._gauges]
            except SQLAlchemyError:
                self._away_until = time.monotonic() + CACHE_SECONDS
                return [_up(0)]

    def describe(self) -> Iterable[Metric]:
        """Answer nothing: a registry asks when the application is built, before any database is there."""
        return []

    def forget(self) -> None:
        """Read everything anew at the next scrape."""
        self._gauges_until = self._away_until = 0.0

    def _read_gauges(self, session: Session) -> None:
        began = time.monotonic()
        configured = {self._settings.queue, self._settings.network_queue} - {""}
        self._gauges = [
            *_queues(session, configured),
            *_workers(session, WORKER_SILENCE * self._settings.heartbeat_interval, configured),
        ]
        now = time.monotonic()
        # However many packs wait: counting them takes a connection for a twentieth of the time at most.
        self._gauges_until = now + max(CACHE_SECONDS, MOST_SHARE * (now - began))

    def _counters(self, session: Session) -> Iterator[Metric]:
        build = GaugeMetricFamily("bfc_build_info", "Always 1", labels=["version"])
        build.add_metric([code_version()], 1)
        yield build
        tallies = read_tallies(session)
        yield from _runs(tallies)
        yield from _reports(tallies)
        yield _summary(
            tallies, TallyName.QUEUE_WAIT, "bfc_queue_wait_seconds", "From accepted to first claimed", "queue"
        )
        yield CounterMetricFamily(
            "bfc_lease_expired",
            "Attempts whose worker stopped answering",
            value=tallies.get(Key(TallyName.EXPIRED), (0, 0))[0],
        )
        fenced = session.scalar(select(func.coalesce(func.sum(Worker.fenced_writes), 0)))
        yield CounterMetricFamily(
            "bfc_fenced_writes", "Times that a worker found its claim over", value=float(fenced or 0)
        )


@router.get("/metrics", include_in_schema=False)
def get_metrics(request: Request) -> Response:
    """Answer in Prometheus' text format."""
    metrics: Metrics = request.app.state.metrics
    return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _up(value: int) -> Metric:
    return GaugeMetricFamily("bfc_database_up", "Whether the database answered this scrape", value=value)


def _runs(tallies: Tallies) -> Iterator[Metric]:
    present = GaugeMetricFamily("bfc_runs", "Runs by status", labels=["status"])
    for status in RunStatus:
        count = sum(
            tally[0] for key, tally in tallies.items() if key.name is TallyName.RUNS and key.status == status
        )
        present.add_metric([status.value], count)
    yield present
    finished = CounterMetricFamily(
        "bfc_runs_finished", "Runs that have ended", labels=["learner_kind", "outcome"]
    )
    diverged = 0
    for key, (count, _) in tallies.items():
        if key.name is TallyName.RUNS_ENDED:
            finished.add_metric([key.label, key.status], count)
            diverged += count if key.status == RunStatus.DIVERGED else 0
    yield finished
    yield CounterMetricFamily("bfc_divergences", "Runs that diverged", value=diverged)


def _reports(tallies: Tallies) -> Iterator[Metric]:
    kind = "learner_kind"
    yield _summary(
        tallies,
        TallyName.RUN_SECONDS,
        "bfc_run_duration_seconds",
        "Compute seconds of runs with a report",
        kind,
    )
    steps = CounterMetricFamily("bfc_train_steps", "Optimiser steps of runs with a report", labels=[kind])
    for key, (_, amount) in tallies.items():
        if key.name is TallyName.RUN_STEPS:
            steps.add_metric([key.label], amount)
    yield steps
    flops = CounterMetricFamily(
        "bfc_train_flops",
        "Floating-point operations of runs with a report, each as if alone: what packs shared counts in every run",
        labels=[kind],
    )
    for key, (_, amount) in tallies.items():
        if key.name is TallyName.RUN_MEGAFLOPS:
            flops.add_metric([key.label], amount * MEGA)
    yield flops
    yield _summary(
        tallies,
        TallyName.SOLVE_SECONDS,
        "bfc_kernel_solve_duration_seconds",
        "Of kernel machines: gram, factorisation and choice of the ridge, without sampling and evaluation",
        kind,
    )


def _summary(tallies: Tallies, name: TallyName, metric: str, help_text: str, label: str) -> Metric:
    family = SummaryMetricFamily(metric, help_text, labels=[label])
    for key, (count, amount) in tallies.items():
        if key.name is name:
            family.add_metric([key.label], count_value=count, sum_value=amount / MICROSECONDS)
    return family


def _queues(session: Session, configured: set[str]) -> Iterator[Metric]:
    now = database_now(session)
    waiting = session.execute(
        select(Pack.queue, func.count(), func.min(Pack.run_after), func.sum(Pack.estimated_seconds))
        .where(is_waiting(), Pack.run_after <= now)
        .group_by(Pack.queue)
    ).all()
    depth = GaugeMetricFamily("bfc_queue_packs", "Packs that wait to be claimed", labels=["queue"])
    age = GaugeMetricFamily("bfc_queue_oldest_seconds", "How long the oldest of them waits", labels=["queue"])
    work = GaugeMetricFamily(
        "bfc_queue_estimated_seconds", "What the plans say of their compute seconds", labels=["queue"]
    )
    for queue, count, oldest, estimated in waiting:
        depth.add_metric([queue], count)
        age.add_metric([queue], max(0.0, (now - oldest).total_seconds()))
        work.add_metric([queue], float(estimated))
    # An autoscaler takes an absent series for one it cannot read, and leaves the workers as they are.
    for queue in sorted(configured - {row[0] for row in waiting}):
        for family in (depth, age, work):
            family.add_metric([queue], 0)
    yield from (depth, age, work)
    wanted = GaugeMetricFamily(
        "bfc_wanted_slots",
        "Packs that run or could: as many slots would leave none waiting",
        labels=["queue"],
    )
    running = _running(session)
    waits = {row[0]: row[1] for row in waiting}
    for queue in sorted(configured | running.keys() | waits.keys()):
        wanted.add_metric([queue], running.get(queue, 0) + waits.get(queue, 0))
    yield wanted


def _running(session: Session) -> dict[str, int]:
    rows = session.execute(
        select(Pack.queue, func.count()).where(Pack.status == PackStatus.RUNNING).group_by(Pack.queue)
    )
    return {row[0]: row[1] for row in rows}


def _workers(session: Session, silence: timedelta, configured: set[str]) -> Iterator[Metric]:
    alive = session.execute(
        select(
            Worker.device,
            Worker.queue,
            func.count(),
            func.sum(Worker.concurrency),
            func.max(Worker.heartbeat_at),
        )
        .where(Worker.stopped_at.is_(None), Worker.heartbeat_at >= database_now(session) - silence)
        .group_by(Worker.device, Worker.queue)
    ).all()
    running = _running(session)
    workers = GaugeMetricFamily("bfc_workers", "Workers that have shown themselves lately", labels=["device"])
    last = GaugeMetricFamily(
        "bfc_worker_last_heartbeat_timestamp_seconds", "Newest sign of life", labels=["device"]
    )
    total = GaugeMetricFamily("bfc_slots", "Packs that workers can hold at a time", labels=["queue"])
    free = GaugeMetricFamily("bfc_free_slots", "Packs that could start now", labels=["queue"])
    by_device: dict[str, tuple[int, float]] = {}
    slots: dict[str, int] = dict.fromkeys(sorted(configured), 0)
    for device, queue, count, concurrency, heartbeat in alive:
        number, newest = by_device.get(device, (0, 0.0))
        by_device[device] = (number + count, max(newest, heartbeat.timestamp()))
        slots[queue] = slots.get(queue, 0) + int(concurrency)
    for device, (number, newest) in by_device.items():
        workers.add_metric([device], number)
        last.add_metric([device], newest)
    for queue, number in slots.items():
        total.add_metric([queue], number)
        free.add_metric([queue], max(0, number - running.get(queue, 0)))
    yield from (workers, last, total, free)
