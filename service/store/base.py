"""Where files go that more than one machine must see: checkpoints of unfinished packs, artifacts of runs.

A key is a path of plain words, ``packs/17/3f…/00000002/step-000000000400.pt``. A key is written once: the names hold
the fence of whoever writes, so that a worker that was cut off can only add beside, never over, what its successor
wrote. What a reader may trust is named by something that is published last and holds a hash: a checkpoint's
manifest, an artifact's row.
"""

import re
from collections.abc import Iterator
from typing import Protocol

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_LONGEST_KEY = 500
CHUNK_BYTES = 1 << 18


class StoreUnavailableError(Exception):
    """The store does not answer, or refuses; for people, without credentials."""


class KeyTakenError(Exception):
    """The key holds other bytes already."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"{key} is written already, with other content")


class Store(Protocol):
    """A folder or a bucket. Used by any number of threads."""

    @property
    def place(self) -> str:
        """Its address, for people; without credentials."""
        ...

    def put(self, key: str, content: bytes) -> None:
        """Write a key once, whole or not at all; the same bytes again are no change.

        Raises:
            KeyTakenError: it holds other bytes.
            StoreUnavailableError: the store does not answer.
            ValueError: not a key.
        """
        ...

    def get(self, key: str) -> bytes | None:
        """Read a key; None where there is none.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        ...

    def stream(self, key: str) -> Iterator[bytes] | None:
        """Read a key in pieces; None where there is none.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        ...

    def folders(self, prefix: str) -> list[str]:
        """Names directly under ``prefix`` that have something under them, sorted.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        ...

    def keys(self, prefix: str) -> list[str]:
        """Every key under ``prefix``, sorted.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        ...

    def delete(self, prefix: str) -> None:
        """Delete a key, or everything under a prefix; what is not there is no error.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        ...


def checked(key: str) -> str:
    """Answer a key that is one.

    Raises:
        ValueError: it could lead out of the store, or is no plain path.
    """
    if len(key) > _LONGEST_KEY or not _KEY.fullmatch(key):
        raise ValueError(f"{key[:80]!r} is no key of the store")
    return key
