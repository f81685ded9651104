"""One worker process: its parts, from the first look at the database to the end of the drain."""

import logging

from celery import signals

from service.broker_check import warn_of_broker_settings
from service.config import Settings
from service.database import open_database
from service.jobs import Publisher
from service.parent_watch import await_start, watch_parent
from service.runs.reconciler import Reconciler
from service.store.opening import open_store
from service.telemetry import configure_logging
from service.webhooks.delivery import WebhookDelivery
from worker.celery_app import build_app
from worker.child_process import ChildStarter
from worker.devices import DeviceChoice, hold_device
from worker.housekeeping import Housekeeping
from worker.slots import WorkerSlot
from worker.training import Training

logger = logging.getLogger(__name__)


def run_worker(settings: Settings, device: DeviceChoice, starter: ChildStarter) -> int:
    """Work until SIGTERM; the exit code is 0 after a drain.

    Args:
        settings: this deployment's.
        device: where children train.
        starter: starts children; already warm.
    """
    configure_logging(settings)
    watch_parent(settings.parent_pipe)
    await_start(settings.start_pipe)
    gpu = hold_device(device, settings.data_dir)
    slot = WorkerSlot(settings.data_dir)
    database = open_database(settings.database_url, settings.busy_timeout)
    publisher = Publisher(settings)
    publisher.start()
    store = open_store(settings)
    training = Training(settings, database, publisher, starter, device, slot.worker_id, store)
    housekeeping = Housekeeping(settings, database, publisher, slot, store, lambda: training.fenced_writes)
    reconciler = Reconciler(database, publisher, settings, also=housekeeping.tick)
    warn_of_broker_settings(settings)
    webhooks = WebhookDelivery(database, settings)
    housekeeping.begin()
    reconciler.start()
    webhooks.start()
    app = build_app(settings, training.train)

    # Celery passes keyword arguments of its own; a drain begins with the first SIGTERM or SIGINT.
    def drain(**_celery: object) -> None:
        logger.info("worker.draining id=%s", slot.worker_id)
        training.draining.set()

    signals.worker_shutting_down.connect(drain, weak=False)
    logger.info("worker.started id=%s queue=%s device=%s", slot.worker_id, settings.queue, settings.device)
    worker = app.Worker(
        hostname=f"bfc@{slot.worker_id}",
        without_gossip=True,
        without_mingle=True,
        quiet=True,
        loglevel=settings.log_level,
    )
    worker.start()
    starter.stop()
    reconciler.stop()
    webhooks.stop()
    housekeeping.end()
    publisher.stop()
    database.dispose()
    slot.release()
    if gpu is not None:
        gpu.release()
    logger.info("worker.stopped id=%s", slot.worker_id)
    return int(worker.exitcode or 0)
