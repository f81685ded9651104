"""Keyset pages: a cursor names the last row that was seen, so rows that arrive meanwhile shift nothing."""

import base64
import binascii
import json
from typing import Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel

from service.errors import CursorInvalidError

MAX_LIMIT = 500
LARGEST_KEY = 2**63 - 1
"""No row's number is larger, in either database; neither takes a larger one as a parameter."""
Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """Some items and, where there are more, the cursor of the next page."""

    items: list[Item]
    next_cursor: str | None = None


def encode_cursor(key: str | int) -> str:
    """Make an opaque cursor from the last row's key."""
    return base64.urlsafe_b64encode(json.dumps([key]).encode()).decode().rstrip("=")


def number_in_cursor(cursor: str) -> int:
    """Read the number of the last row back.

    Raises:
        CursorInvalidError: it was not made by :func:`encode_cursor` for a row's number.
    """
    key = _key(cursor)
    if type(key) is not int or not 0 <= key <= LARGEST_KEY:
        raise CursorInvalidError
    return key


def id_in_cursor(cursor: str) -> UUID:
    """Read the id of the last row back.

    Raises:
        CursorInvalidError: it was not made by :func:`encode_cursor` for an id.
    """
    key = _key(cursor)
    try:
        return UUID(key)
    except (ValueError, TypeError, AttributeError) as error:
        raise CursorInvalidError from error


def _key(cursor: str) -> Any:  # noqa: ANN401 - whatever JSON it is
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, RecursionError) as error:
        raise CursorInvalidError from error
    if not isinstance(key, list) or len(key) != 1:
        raise CursorInvalidError
    return key[0]
