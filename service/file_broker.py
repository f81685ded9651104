"""The embedded stack's broker: kombu's filesystem transport, made safe for several processes.

The stock transport writes a message in place: a reader can meet half of it, and one torn file ends the worker.
Here a message is written aside and renamed, taken by a rename, and anything that is no message is put away.
Routing is by queue name alone; the stock table of bindings, torn in the same way, is not used.
"""

import logging
import os
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps, loads

logger = logging.getLogger(__name__)


class Channel(filesystem.Channel):
    """One file a message: ``<nanoseconds>_<uuid>.<queue>.msg``; ordered by name."""

    supports_fanout = False

    @property
    def folder(self) -> Path:
        """Where the messages lie."""
        return Path(self.transport_options["folder"])

    def get_table(self, _exchange: str) -> list[Any]:
        """No bindings: messages go to the queue that they name."""
        return []

    def _queue_bind(self, *_arguments: object) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def _put(self, queue: str, payload: dict[str, Any], **_options: Any) -> None:  # type: ignore[override]  # noqa: ANN401
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns():020d}_{uuid.uuid4().hex}.{queue}.msg"
        temporary = self.folder / f".{name}.tmp"
        temporary.write_text(dumps(payload))
        temporary.replace(self.folder / name)

    def _get(self, queue: str, timeout: float | None = None) -> Any:  # noqa: ANN401, ARG002 - kombu's own
        for name in self._waiting(queue):
            taken = self.folder / f".{name}.{os.getpid()}.taken"
            try:
                (self.folder / name).rename(taken)
            except OSError:  # another worker was faster
                continue
            payload = _message(taken)
            if payload is not None:
                taken.unlink(missing_ok=True)
                return payload
            logger.warning("broker.junk_put_away file=%s", name)
            taken.replace(self.folder / f"{name}.junk")
        raise Empty

    def _size(self, queue: str) -> int:
        return len(self._waiting(queue))

    def _purge(self, queue: str) -> int:
        names = self._waiting(queue)
        for name in names:
            (self.folder / name).unlink(missing_ok=True)
        return len(names)

    def _delete(self, queue: str, *_arguments: object, **_options: object) -> None:
        self._purge(queue)

    def _waiting(self, queue: str) -> list[str]:
        try:
            names = os.listdir(self.folder)  # noqa: PTH208 - names alone; several times a second
        except FileNotFoundError:
            return []
        ending = f".{queue}.msg"
        return sorted(name for name in names if name.endswith(ending) and not name.startswith("."))


class Transport(filesystem.Transport):
    """Chosen by ``service.jobs`` for ``filesystem://``."""

    Channel = Channel


def _message(file: Path) -> dict[str, Any] | None:
    """The message in ``file``, or None where it is something else."""
    try:
        payload = loads(file.read_text())
    except (OSError, ValueError):
        return None
    is_message = (
        isinstance(payload, dict)
        and isinstance(payload.get("body"), str)
        and isinstance(payload.get("headers"), dict)
        and isinstance(payload.get("properties"), dict)
        and isinstance(payload["properties"].get("delivery_info"), dict)
        and "delivery_tag" in payload["properties"]
    )
    return payload if is_message else None
