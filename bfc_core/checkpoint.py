"""Checkpoints of a pack: one folder, files written whole or not at all, the newest sound one wins.

A file is written to a temporary name, flushed to disk and renamed; its SHA-256 stands in a sidecar.
Reading goes from the newest to the oldest and skips what does not fit its hash. Only tensors and plain
values are stored and ``weights_only`` is always on, so a checkpoint cannot carry code.
"""

import hashlib
import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

KEEP = 2
"""Newest checkpoints that are kept; the second covers a torn first."""

_WORTH_SECONDS = 1.0
"""Work that is not lost between the units of a pack, each of which may be much shorter or longer."""


class Checkpoints(Protocol):
    """Where a pack saves itself and finds itself again."""

    def due(self) -> bool:
        """Whether a periodic save is worth its time."""
        ...

    def save(self, step: int, state: dict[str, Any]) -> object:
        """Keep ``state`` as the newest."""
        ...

    def load(self) -> dict[str, Any] | None:
        """The newest state; None where there is none."""
        ...


class CheckpointFolder:
    """Where one attempt at a pack saves, and where it looks for what earlier attempts left.

    Args:
        folder: this attempt's own folder; made on first save.
        earlier: folders of earlier attempts at the same pack, newest first; only read.
        interval_seconds: least time between two periodic saves.
    """

    def __init__(self, folder: Path, earlier: tuple[Path, ...] = (), interval_seconds: float = 60.0) -> None:
        self.folder = folder
        self.earlier = earlier
        self.interval_seconds = interval_seconds
        self.saved: Callable[[int, Path, str], None] = lambda step, path, digest: None  # noqa: ARG005
        self.saving: Callable[[Path], None] = lambda path: None  # noqa: ARG005
        """Called when a checkpoint's hash is written and its content is not."""
        self._last_save = time.monotonic()
        self._save_seconds = 0.0

    def due(self) -> bool:
        """Whether a periodic save is worth its time: every interval, and never above 5 % of the work."""
        waited = time.monotonic() - self._last_save
        return waited >= max(self.interval_seconds, 20 * self._save_seconds)

    def is_worthwhile(self) -> bool:
        """Whether what was finished since the last save took long enough to be saved: a second, and 20 saves."""
        waited = time.monotonic() - self._last_save
        return waited >= max(min(_WORTH_SECONDS, self.interval_seconds), 20 * self._save_seconds)

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write ``state`` as the checkpoint of ``step`` and drop all but the newest ``KEEP``."""
        started = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save({"step": step, "state": state}, buffer)
        content = buffer.getvalue()
        digest = hashlib.sha256(content).hexdigest()
        path = self.folder / f"step-{step:012d}.pt"
        _write_whole(path.with_suffix(".sha256"), digest.encode())
        self.saving(path)
        _write_whole(path, content)
        for old in sorted(self.folder.glob("step-*.pt"), reverse=True)[KEEP:]:
            old.unlink(missing_ok=True)
            old.with_suffix(".sha256").unlink(missing_ok=True)
        self._last_save = time.monotonic()
        self._save_seconds = self._last_save - started
        self.saved(step, path, digest)
        return path

    def load(self) -> dict[str, Any] | None:
        """The newest state whose hash fits, of this or an earlier attempt; None where there is none."""
        found = [path for folder in (self.folder, *self.earlier) for path in folder.glob("step-*.pt")]
        for path in sorted(found, key=lambda path: path.name, reverse=True):
            content = _read_sound(path)
            if content is not None:
                loaded: dict[str, Any] = torch.load(
                    io.BytesIO(content), weights_only=True, map_location="cpu"
                )
                state: dict[str, Any] = loaded["state"]
                return state
        return None


def _read_sound(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
        expected = path.with_suffix(".sha256").read_text().strip()
    except OSError:
        return None
    return content if hashlib.sha256(content).hexdigest() == expected else None


def _write_whole(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
