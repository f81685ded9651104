"""/metrics for Prometheus: the state of the work from the database, the API's own latency from this process.

What comes from the database is the same whichever API process is asked, and is read at most every five seconds.
No label has an id, an n or a dim: the number of series does not grow with the work.
"""

import threading
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

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
from sqlalchemy import ColumnElement, Double, cast, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from service.config import Settings
from service.database import Database, database_now
from service.events import Feeds
from service.health import WORKER_SILENCE
from service.models import Attempt, AttemptOutcome, Pack, PackStatus, Report, Run, RunStatus, Worker
from service.runs.cell import code_version

CACHE_SECONDS = 5.0
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)

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
        self._known: list[Metric] = []
        self._known_until = 0.0

    def collect(self) -> Iterable[Metric]:
        """Yield every family; with the database away only that it is away."""
        with self._lock:
            if time.monotonic() >= self._known_until:
                try:
                    with self._database.reading() as session:
                        self._known = [_up(1), *self._read(session)]
                except SQLAlchemyError:
                    self._known = [_up(0)]
                self._known_until = time.monotonic() + CACHE_SECONDS
            return list(self._known)

    def describe(self) -> Iterable[Metric]:
        """Answer nothing: a registry asks when the application is built, before any database is there."""
        return []

    def _read(self, session: Session) -> Iterator[Metric]:
        build = GaugeMetricFamily("bfc_build_info", "Always 1", labels=["version"])
        build.add_metric([code_version()], 1)
        yield build
        yield from _runs(session)
        yield from _reports(session)
        configured = {self._settings.queue, self._settings.network_queue} - {""}
        yield from _queues(session, configured)
        yield from _workers(session, WORKER_SILENCE * self._settings.heartbeat_interval, configured)
        yield _counter(
            session,
            "bfc_lease_expired",
            "Attempts whose worker stopped answering",
            select(func.count()).select_from(Attempt).where(Attempt.outcome == AttemptOutcome.EXPIRED),
        )
        yield _counter(
            session,
            "bfc_fenced_writes",
            "Times that a worker found its claim over",
            select(func.coalesce(func.sum(Worker.fenced_writes), 0)),
        )


@router.get("/metrics", include_in_schema=False)
def get_metrics(request: Request) -> Response:
    """Answer in Prometheus' text format."""
    metrics: Metrics = request.app.state.metrics
    return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _up(value: int) -> Metric:
    return GaugeMetricFamily("bfc_database_up", "Whether the database answered this scrape", value=value)


def _runs(session: Session) -> Iterator[Metric]:
    counts = session.execute(
        select(Run.status, Run.learner_kind, func.count()).group_by(Run.status, Run.learner_kind)
    ).all()
    present = GaugeMetricFamily("bfc_runs", "Runs by status", labels=["status"])
    for status in RunStatus:
        present.add_metric([status.value], sum(row[2] for row in counts if row[0] is status))
    yield present
    finished = CounterMetricFamily(
        "bfc_runs_finished", "Runs that have ended", labels=["learner_kind", "outcome"]
    )
    for status, kind, count in counts:
        if status.is_terminal:
            finished.add_metric([kind, status.value], count)
    yield finished
    diverged = sum(row[2] for row in counts if row[0] is RunStatus.DIVERGED)
    yield CounterMetricFamily("bfc_divergences", "Runs that diverged", value=diverged)


def _reports(session: Session) -> Iterator[Metric]:
    rows = session.execute(
        select(
            Run.learner_kind,
            func.count(),
            func.sum(Report.seconds),
            func.sum(Report.steps),
            # In whole numbers the sum would overflow after months of work.
            func.sum(cast(Report.flops, Double)),
            func.count(Report.solve_seconds),
            func.sum(Report.solve_seconds),
        )
        .join(Report, Report.run_id == Run.id)
        .group_by(Run.learner_kind)
    ).all()
    seconds = SummaryMetricFamily(
        "bfc_run_duration_seconds", "Compute seconds of runs with a report", labels=["learner_kind"]
    )
    steps = CounterMetricFamily(
        "bfc_train_steps", "Optimiser steps of runs with a report", labels=["learner_kind"]
    )
    flops = CounterMetricFamily(
        "bfc_train_flops",
        "Floating-point operations of runs with a report, each as if alone: what packs shared counts in every run",
        labels=["learner_kind"],
    )
    solves = SummaryMetricFamily(
        "bfc_kernel_solve_duration_seconds",
        "Of kernel machines: gram, factorisation and choice of the ridge, without sampling and evaluation",
        labels=["learner_kind"],
    )
    for kind, count, total_seconds, total_steps, total_flops, solved, solve_seconds in rows:
        seconds.add_metric([kind], count_value=count, sum_value=float(total_seconds))
        steps.add_metric([kind], float(total_steps))
        flops.add_metric([kind], float(total_flops or 0))
        if solved:
            solves.add_metric([kind], count_value=solved, sum_value=float(solve_seconds or 0.0))
    yield seconds
    yield steps
    yield flops
    yield solves


def _queues(session: Session, configured: set[str]) -> Iterator[Metric]:
    started, created = Pack.started_at.expression, Pack.created_at.expression
    seconds = _seconds(session, started) - _seconds(session, created)
    waited = session.execute(
        select(Pack.queue, func.count(), func.sum(seconds))
        .where(Pack.started_at.is_not(None))
        .group_by(Pack.queue)
    ).all()
    wait = SummaryMetricFamily("bfc_queue_wait_seconds", "From accepted to first claimed", labels=["queue"])
    for queue, count, total in waited:
        wait.add_metric([queue], count_value=count, sum_value=float(total))
    yield wait
    now = database_now(session)
    waiting = session.execute(
        select(Pack.queue, func.count(), func.min(Pack.run_after), func.sum(Pack.estimated_seconds))
        .where(Pack.status == PackStatus.QUEUED, Pack.held_at.is_(None), Pack.run_after <= now)
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


def _counter(session: Session, name: str, help_text: str, query: object) -> Metric:
    return CounterMetricFamily(name, help_text, value=float(session.scalar(query) or 0))  # type: ignore[call-overload]


def _seconds(session: Session, moment: ColumnElement[Any]) -> ColumnElement[float]:
    """A moment as seconds, on either database."""
    if session.get_bind().dialect.name == "sqlite":
        return cast(func.julianday(moment), Double) * 86400.0
    return cast(func.extract("epoch", moment), Double)
