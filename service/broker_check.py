"""What the broker's own settings would break, said at the start of a worker, loudly.

Nothing is lost under any of them, since the database is the truth; but wake-ups would vanish or workers be cut off,
and the work would crawl at the pace of the reconciler.
"""

import logging
import threading

from kombu import Connection
from kombu.exceptions import KombuError

from service.config import Settings

logger = logging.getLogger(__name__)

_OLDEST_RABBITMQ = (3, 12)
"""The first that keeps to a queue's own x-consumer-timeout."""


def warn_of_broker_settings(settings: Settings) -> None:
    """Look in the background, once; a broker that is away is somebody else's news."""
    threading.Thread(target=_look, args=(settings,), name="broker-check", daemon=True).start()


def broker_warnings(settings: Settings) -> list[str]:
    """One sentence for every setting of the broker that works against us.

    Raises:
        KombuError | OSError: the broker cannot be asked.
    """
    if settings.broker_url.startswith("redis"):
        return _redis_warnings(settings)
    if settings.broker_url.startswith("amqp"):
        return _rabbitmq_warnings(settings)
    return []


def rabbitmq_warnings(version: str) -> list[str]:
    """What to say about a server of this version."""
    try:
        found = tuple(int(part) for part in version.split(".")[:2])
    except ValueError:
        return []
    if found >= _OLDEST_RABBITMQ:
        return []
    warning = (
        f"RabbitMQ {version} ignores a queue's own consumer timeout and cuts off who works on a pack for half an "
        "hour: set consumer_timeout as in deploy/rabbitmq.conf, or use 3.12 or newer"
    )
    return [warning]


def _redis_warnings(settings: Settings) -> list[str]:
    from redis import Redis  # noqa: PLC0415 - docs/decisions/0057
    from redis.exceptions import RedisError  # noqa: PLC0415 - docs/decisions/0057

    seconds = settings.broker_timeout.total_seconds()
    timeouts = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
    try:
        with Redis.from_url(settings.broker_url, **timeouts) as redis:
            found = redis.config_get("maxmemory-policy", "appendonly", "save")
    except RedisError as error:
        raise ConnectionError(str(error)) from error
    warnings = []
    if (policy := found.get("maxmemory-policy", "noeviction")) != "noeviction":
        warnings.append(
            f"Redis throws keys away when memory is short ({policy}): set maxmemory-policy noeviction"
        )
    if found.get("appendonly") == "no" and not found.get("save"):
        warnings.append(
            "Redis keeps nothing over a restart: set appendonly yes, or wake-ups wait for the reconciler"
        )
    return warnings


def _rabbitmq_warnings(settings: Settings) -> list[str]:
    with Connection(
        settings.broker_url, connect_timeout=settings.broker_timeout.total_seconds()
    ) as connection:
        connection.connect()
        properties = connection.connection.server_properties
    return rabbitmq_warnings(str(properties.get("version", "")))


def _look(settings: Settings) -> None:
    try:
        found = broker_warnings(settings)
    except (KombuError, OSError):
        return
    for warning in found:
        logger.warning("broker.setting_harmful %s", warning)
