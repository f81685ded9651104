"""Wake-up messages: what the broker is told after a commit. Losing one costs time, never work.

Publishing happens in a thread of its own behind a bounded queue: a broker that is dead or frozen never blocks
whoever publishes. A failure is logged and what waits is dropped; the reconciler sends it again.
"""

import logging
import threading
from collections.abc import Iterable
from queue import Empty, Full, Queue
from typing import Any, cast

from celery import Celery
from kombu import Queue as BrokerQueue
from kombu.exceptions import ChannelError, KombuError
from kombu.transport import TRANSPORT_ALIASES

from service.config import Settings
from service.runs.moves import Wakeup

logger = logging.getLogger(__name__)

TASK = "bfc.train"
"""Name of the task that claims a pack; the service knows the worker by this name alone."""

_FILE_SCHEME = "bfc-file"
_WEEK_SECONDS = 7 * 24 * 3600
_WAITING_LIMIT = 10_000

TRANSPORT_ALIASES[_FILE_SCHEME] = "service.file_broker:Transport"


def queue_name(settings: Settings, queue: str) -> str:
    """Name of a queue at the broker."""
    return f"{settings.broker_prefix}{queue}"


def broker_queue(settings: Settings, queue: str) -> BrokerQueue:
    """A queue as everybody declares it: two declarations that differ are an error of the broker."""
    name = queue_name(settings, queue)
    arguments: dict[str, Any] = {}
    if not settings.broker_url.startswith(("filesystem:", "redis")):
        # A pack lasts hours; the broker's own limit on an unacknowledged message is 30 minutes.
        arguments = {"x-queue-type": "quorum", "x-consumer-timeout": _WEEK_SECONDS * 1000}
    return BrokerQueue(name, routing_key=name, queue_arguments=arguments)


def broker_configuration(settings: Settings, queues: Iterable[str]) -> dict[str, Any]:
    """Celery settings that the publisher and the worker must agree on."""
    seconds = settings.broker_timeout.total_seconds()
    url = settings.broker_url
    options: dict[str, Any] = {}
    if url.startswith("filesystem:"):
        url = f"{_FILE_SCHEME}://localhost"
        options = {"folder": str(settings.data_dir.absolute() / "broker"), "polling_interval": 0.1}
    elif url.startswith("redis"):
        options = {
            "visibility_timeout": _WEEK_SECONDS,
            "socket_timeout": seconds,
            "socket_connect_timeout": seconds,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "global_keyprefix": settings.broker_prefix,
        }
    else:
        options = {"confirm_publish": True, "connect_timeout": seconds}
    declared = [broker_queue(settings, queue) for queue in queues]
    return {
        "broker_url": url,
        "broker_transport_options": options,
        "broker_connection_timeout": seconds,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "task_queues": declared,
        "task_default_queue": declared[0].name,
        "task_ignore_result": True,
        "task_publish_retry": False,
        "task_serializer": "json",
        "accept_content": ["json"],
        "enable_utc": True,
    }


class Publisher:
    """Sends wake-ups in the background. One per process; ``start`` before, ``stop`` after use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._app = Celery("bfc-publisher", set_as_current=False)
        self._app.conf.update(broker_configuration(settings, [settings.queue]))
        self._waiting: Queue[Wakeup | None] = Queue(_WAITING_LIMIT)
        self._thread = threading.Thread(target=self._send_all, name="job-publisher", daemon=True)

    def start(self) -> None:
        """Start the thread that sends."""
        self._thread.start()

    def stop(self) -> None:
        """Send what waits, for as long as one broker timeout, and end."""
        try:
            self._waiting.put_nowait(None)
        except Full:
            return
        if self._thread.is_alive():
            self._thread.join(self._settings.broker_timeout.total_seconds())

    def publish(self, wakeups: Iterable[Wakeup]) -> None:
        """Hand over messages for committed packs; returns at once whatever the broker does."""
        for wakeup in wakeups:
            try:
                self._waiting.put_nowait(wakeup)
            except Full:
                logger.warning("job.publish_skipped pack_id=%s reason=too_many_waiting", wakeup.pack_id)
                return

    def backlog(self, queue: str) -> int:
        """Number of wake-ups that wait at the broker.

        Raises:
            OSError | KombuError: the broker cannot be asked.
        """
        with self._app.connection_for_read() as connection:
            try:
                name = queue_name(self._settings, queue)
                channel: Any = connection.default_channel
                declared = channel.queue_declare(name, passive=True)
            except ChannelError:
                return 0
            except connection.channel_errors:
                return 0
            return int(declared.message_count)

    def is_reachable(self) -> bool:
        """Whether the broker answers, within the broker timeout."""
        try:
            with self._app.connection_for_read() as connection:
                connection.ensure_connection(
                    max_retries=1, timeout=max(1, round(self._settings.broker_timeout.total_seconds()))
                )
        except (OSError, KombuError):
            return False
        return True

    def _send_all(self) -> None:
        while (wakeup := self._waiting.get()) is not None:
            try:
                self._app.send_task(
                    TASK,
                    kwargs={"pack_id": wakeup.pack_id},
                    # Whatever queue the pack is in, also one that this process's settings do not name.
                    queue=cast("str", broker_queue(self._settings, wakeup.queue)),
                    retry=False,
                    ignore_result=True,
                    confirm_timeout=self._settings.broker_timeout.total_seconds(),
                )
            except Exception as error:  # noqa: BLE001 - each transport has its own errors, none may end the thread
                dropped = self._drop_waiting()
                logger.warning(
                    "job.publish_failed pack_id=%s dropped=%s error=%r", wakeup.pack_id, dropped, error
                )

    def _drop_waiting(self) -> int:
        dropped = 0
        try:
            while True:
                if self._waiting.get_nowait() is None:
                    self._waiting.put_nowait(None)
                    return dropped
                dropped += 1
        except Empty:
            return dropped
