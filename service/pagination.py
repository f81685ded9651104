"""Keyset pages: a cursor names the last row that was seen, so rows that arrive meanwhile shift nothing."""

import base64
import binascii
import json
from typing import Generic, TypeVar

from pydantic import BaseModel

from service.errors import CursorInvalidError

MAX_LIMIT = 500
Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """Some items and, where there are more, the cursor of the next page."""

    items: list[Item]
    next_cursor: str | None = None


def encode_cursor(*key: str | int) -> str:
    """Make an opaque cursor from the last row's key."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, kinds: tuple[type, ...]) -> tuple[str | int, ...]:
    """Read a cursor back.

    Raises:
        CursorInvalidError: it was not made by :func:`encode_cursor` for keys of these kinds.
    """
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, RecursionError) as error:
        raise CursorInvalidError from error
    if (
        not isinstance(key, list)
        or len(key) != len(kinds)
        or not all(type(part) is kind for part, kind in zip(key, kinds, strict=True))
    ):
        raise CursorInvalidError
    return tuple(key)
