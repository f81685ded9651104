"""Log lines, for people or for programs, without secrets.

The house's lines are ``noun.happened key=value …``. As ``text`` they stand as they are; as ``json`` each is one
object with the event, its keys as fields, the time in UTC, and the id of the request it belongs to. Both pass
through the same sieve: passwords of the settings' addresses and anything that looks like an API key never come out.
"""

import json
import logging
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from service.config import Settings

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The request that the present task or thread works for."""

HIDDEN = "***"
_KEY = re.compile(r"\bbfc_[A-Za-z0-9_-]{20,}")
_EVENT = re.compile(r"[a-z_]+(\.[a-z_]+)+")
_FIELD = re.compile(r"(\w+)=('[^']*'|\"[^\"]*\"|\[[^\]]*\]|.+?(?= \w+=|$))")
_LEAST_SECRET = 4


def configure_logging(settings: Settings) -> None:
    """Set up the root logger of a process of ours; what was set up before goes."""
    handler = logging.StreamHandler(sys.stderr)
    sieve = Sieve(settings)
    handler.setFormatter(JsonLines(sieve) if settings.log_format == "json" else TextLines(sieve))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)


class Sieve:
    """Takes secrets out of text."""

    def __init__(self, settings: Settings) -> None:
        found = set()
        for url in (settings.database_url, settings.broker_url):
            password = urlsplit(url).password
            # A word like "bfc" as a password would blacken every line and protect nothing.
            if password and len(password) >= _LEAST_SECRET:
                found |= {password, unquote(password)}
        self._secrets = sorted(found, key=len, reverse=True)

    def clean(self, text: str) -> str:
        """The text with every secret replaced."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return _KEY.sub(f"bfc_{HIDDEN}", text)


class TextLines(logging.Formatter):
    """Time, level, logger, line."""

    def __init__(self, sieve: Sieve) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")
        self._sieve = sieve

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; a traceback is cleaned like the rest."""
        return self._sieve.clean(super().format(record))


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, sieve: Sieve) -> None:
        super().__init__()
        self._sieve = sieve

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; the fields of the line never hide the ones that every line has."""
        line = record.getMessage()
        event, fields = parsed(line)
        document: dict[str, Any] = fields | {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": event,
            "message": line,
        }
        if (current := request_id.get()) is not None:
            document.setdefault("request_id", current)
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return self._sieve.clean(json.dumps(document, ensure_ascii=False, default=str))


def parsed(line: str) -> tuple[str | None, dict[str, Any]]:
    """The event and the fields of a line of ours; None and nothing of a stranger's."""
    event, _, rest = line.partition(" ")
    if not _EVENT.fullmatch(event):
        return None, {}
    if rest.startswith("{"):
        try:
            fields = json.loads(rest)
        except ValueError:
            return event, {}
        return event, fields if isinstance(fields, dict) else {}
    return event, {name: value.strip("'\"") for name, value in _FIELD.findall(rest)}
