"""Checkpoints of a pack: one folder, files written whole or not at all, the newest sound one wins.

The content comes first, under a name that has its hash; then, by one rename, the manifest ``step-….sha256`` that makes
it a checkpoint. Whenever the process dies in between, the checkpoints before are whole and the new one is whole or
not there. Reading goes from the newest manifest to the oldest and skips what does not fit its hash. Only tensors
and plain values are stored and ``weights_only`` is always on, so a checkpoint cannot carry code.
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
        """Called when a checkpoint's content is written and its manifest is not."""
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
        manifest = self.folder / f"step-{step:012d}.sha256"
        path = _content_of(manifest, digest)
        _write_whole(path, content)
        self.saving(path)
        _write_whole(manifest, digest.encode())
        self._drop_old()
        self._last_save = time.monotonic()
        self._save_seconds = self._last_save - started
        self.saved(step, path, digest)
        return path

    def load(self) -> dict[str, Any] | None:
        """The newest state whose hash fits, of this or an earlier attempt; None where there is none."""
        found = [path for folder in (self.folder, *self.earlier) for path in folder.glob("step-*.sha256")]
        for manifest in sorted(found, key=lambda path: path.name, reverse=True):
            content = _read_sound(manifest)
            if content is not None:
                loaded: dict[str, Any] = torch.load(
                    io.BytesIO(content), weights_only=True, map_location="cpu"
                )
                state: dict[str, Any] = loaded["state"]
                return state
        return None

    def _drop_old(self) -> None:
        """Keep the newest manifests and their contents; also drops what a save that was cut off left here."""
        manifests = sorted(self.folder.glob("step-*.sha256"), reverse=True)
        for manifest in manifests[KEEP:]:
            manifest.unlink(missing_ok=True)
        kept = {_content_of(manifest, manifest.read_text().strip()) for manifest in manifests[:KEEP]}
        for content in set(self.folder.glob("step-*.pt")) - kept:
            content.unlink(missing_ok=True)


def _content_of(manifest: Path, digest: str) -> Path:
    return manifest.with_name(f"{manifest.stem}-{digest[:16]}.pt")


def _read_sound(manifest: Path) -> bytes | None:
    try:
        expected = manifest.read_text().strip()
        content = _content_of(manifest, expected).read_bytes()
    except (OSError, ValueError):
        return None
    return content if hashlib.sha256(content).hexdigest() == expected else None


def _write_whole(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    # The rename too must be on the disk before anything relies on it.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
