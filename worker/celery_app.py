"""The Celery application of the worker. The database is the truth; Celery only wakes us.

``python -m worker`` is the way to start one: it reads the settings, which nothing here does.
"""

from collections.abc import Callable

from celery import Celery
from celery.worker.consumer import Consumer
from celery.worker.consumer.delayed_delivery import DelayedDelivery

from service.config import Settings
from service.jobs import TASK, broker_configuration


class PackConsumer(Consumer):
    """Celery's consumer without delayed delivery: nothing here is delayed, and it litters the broker."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc, valid-type]
        """The steps, less one."""

        default_steps = tuple(
            step
            for step in Consumer.Blueprint.default_steps
            if step != f"{DelayedDelivery.__module__}:{DelayedDelivery.__name__}"
        )


def build_app(settings: Settings, train: Callable[[int], None]) -> Celery:
    """Make the application with the one task, ``train(pack_id)``."""
    app = Celery("bfc-worker", set_as_current=False)
    app.conf.update(broker_configuration(settings, [settings.queue]))
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        worker_prefetch_multiplier=1,
        worker_pool="threads",
        worker_concurrency=settings.concurrency,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_consumer=f"{PackConsumer.__module__}:{PackConsumer.__name__}",
        task_store_errors_even_if_ignored=False,
    )
    app.task(name=TASK, ignore_result=True, acks_late=True)(_task(train))
    return app


def _task(train: Callable[[int], None]) -> Callable[[int], None]:
    def train_pack(pack_id: int) -> None:
        """Claim and execute a pack."""
        train(pack_id)

    return train_pack
