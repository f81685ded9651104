"""The Celery application of the worker. The database is the truth; Celery only wakes us.

``python -m worker`` is the way to start one: it reads the settings, which nothing here does.
"""

from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.worker import loops
from celery.worker.consumer import Consumer
from celery.worker.consumer.delayed_delivery import DelayedDelivery

from service.config import Settings
from service.jobs import TASK, broker_configuration

LOOK_SECONDS = 0.1
"""How often an idle worker looks whether it shall end."""


class PackConsumer(Consumer):
    """Celery's consumer without delayed delivery, and one that notices a SIGTERM while it waits for messages.

    Nothing here is delayed, and delayed delivery litters the broker. Celery's own loops look for a shutdown every
    one (Redis, RabbitMQ) or two seconds (files), for which a drain of an idle worker would have to wait.
    """

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc, valid-type]
        """The steps, less one."""

        default_steps = tuple(
            step
            for step in Consumer.Blueprint.default_steps
            if step != f"{DelayedDelivery.__module__}:{DelayedDelivery.__name__}"
        )

    loop: Any
    channel_errors: Any

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - Celery's own
        super().__init__(*arguments, **named)
        self._has_listened = False
        if self.loop is loops.synloop:
            self.loop = _prompt_loop

    def on_ready(self) -> None:
        """Note that the queue is as we want it: from here on a closed channel is worth another one."""
        self._has_listened = True
        super().on_ready()

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Connect again, unless the broker has refused us from the start (another queue of our name, no rights)."""
        if isinstance(exc, self.channel_errors) and not self._has_listened:
            raise exc
        super().on_connection_error_after_connected(exc)

    def register_with_event_loop(self, hub: Any) -> None:  # noqa: ANN401 - Celery's own
        """Bound the wait for messages: the loop's poll lasts until the next timer."""
        super().register_with_event_loop(hub)
        hub.call_repeatedly(LOOK_SECONDS, _nothing)


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
        # RabbitMQ closes the channel of whoever holds a message longer than its consumer timeout. Celery would
        # end the worker for it; here the pack goes on, and a new channel brings the message once more.
        broker_channel_error_retry=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_timer_precision=LOOK_SECONDS,
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


class _PromptConnection:
    """A connection whose waits for messages are short."""

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - kombu's own
        self._connection = connection

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the connection has
        return getattr(self._connection, name)

    def drain_events(self, timeout: float) -> Any:  # noqa: ANN401 - kombu's own
        return self._connection.drain_events(timeout=min(timeout, LOOK_SECONDS))


def _prompt_loop(obj: Any, connection: Any, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - Celery's own
    loops.synloop(obj, _PromptConnection(connection), *arguments, **named)


def _nothing() -> None:
    pass
