"""Checkpoints in the store: what a worker on another machine resumes from.

The child writes to its own disk and knows no store. Beside it, in a thread, this uploads the newest checkpoint under
``packs/<pack>/<members>/<fence>/`` and then, last, its manifest with the hash. A checkpoint without a manifest is
none. The key holds the fence, so a worker that was cut off and comes back writes beside its successor.
"""

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ValidationError

from service.store.base import KeyTakenError, Store, StoreUnavailableError
from worker.pack_folder import PackFolder

logger = logging.getLogger(__name__)

KEEP = 2
"""Newest checkpoints of an attempt that stay in the store."""

_RETRY_SECONDS = 1.0


class Manifest(BaseModel):
    """What a reader may trust of a checkpoint."""

    step: int
    name: str
    size: int
    sha256: str


class CheckpointMirror:
    """Uploads the checkpoints of one attempt. ``saved`` is told of each one that is published."""

    def __init__(self, store: Store, folder: PackFolder, saved: Callable[[int, str, str], None]) -> None:
        self._store, self._folder, self._saved = store, folder, saved
        self._newest: tuple[int, Path, str] | None = None
        self._published: list[str] = []
        self._change = threading.Condition()
        self._is_busy = self._is_over = False
        self._thread = threading.Thread(target=self._repeat, name="checkpoint-mirror", daemon=True)
        self._thread.start()

    @property
    def has_published(self) -> bool:
        """Whether there is anything of this attempt in the store."""
        return bool(self._published)

    def offer(self, step: int, path: Path, sha256: str) -> None:
        """Upload this checkpoint soon; one that waits and is older is passed over."""
        with self._change:
            self._newest = (step, path, sha256)
            self._change.notify_all()

    def finish(self, seconds: float) -> None:
        """Upload what waits, for so long, and end."""
        deadline = time.monotonic() + seconds
        with self._change:
            while (self._newest is not None or self._is_busy) and time.monotonic() < deadline:
                self._change.wait(max(0.0, deadline - time.monotonic()))
        self.abandon()

    def abandon(self) -> None:
        """Upload nothing more."""
        with self._change:
            self._newest, self._is_over = None, True
            self._change.notify_all()

    def _repeat(self) -> None:
        while True:
            with self._change:
                while self._newest is None and not self._is_over:
                    self._change.wait()
                if self._is_over:
                    return
                taken, self._newest, self._is_busy = self._newest, None, True
            assert taken is not None
            is_done = self._publish(*taken)
            with self._change:
                self._is_busy = False
                if not is_done and self._newest is None and not self._is_over:
                    self._newest = taken
                self._change.notify_all()
                if not is_done:
                    self._change.wait(_RETRY_SECONDS)

    def _publish(self, step: int, path: Path, sha256: str) -> bool:
        """Whether there is nothing left to do about this checkpoint."""
        try:
            content = path.read_bytes()
        except OSError:  # the child has dropped it for a newer one
            return True
        if hashlib.sha256(content).hexdigest() != sha256:
            return True
        key = f"{self._folder.key}/{path.name}"
        manifest = Manifest(step=step, name=path.name, size=len(content), sha256=sha256)
        try:
            self._store.put(key, content)
            self._store.put(f"{key}.json", manifest.model_dump_json().encode())
            self._published.append(key)
            self._saved(step, f"{self._store.place}/{key}", sha256)
            for old in self._published[:-KEEP]:
                # The manifest first: what it names is there for as long as it is.
                self._store.delete(f"{old}.json")
                self._store.delete(old)
            del self._published[:-KEEP]
        except StoreUnavailableError as error:
            logger.warning("checkpoint.not_mirrored key=%s error=%s", key, error)
            return False
        except KeyTakenError as error:
            logger.warning("checkpoint.key_taken error=%s", error)
        return True


def restore(store: Store, folder: PackFolder) -> PackFolder:
    """Fetch the newest sound checkpoint of earlier attempts, where it is newer than those on this disk.

    Raises:
        StoreUnavailableError: the store does not answer.
    """
    here = max((path.name for own in folder.earlier for path in own.glob("step-*.pt")), default="")
    found: list[tuple[Manifest, str]] = []
    for fence in store.folders(folder.members_key):
        if fence >= folder.folder.name:
            continue
        for key in store.keys(f"{folder.members_key}/{fence}"):
            manifest = _manifest(store, key) if key.endswith(".json") else None
            if manifest is not None and manifest.name > here:
                found.append((manifest, key.removesuffix(".json")))
    for manifest, key in sorted(found, key=lambda pair: pair[0].step, reverse=True):
        content = store.get(key)
        if content is None or hashlib.sha256(content).hexdigest() != manifest.sha256:
            logger.warning("checkpoint.unsound key=%s", key)
            continue
        fence = key.rsplit("/", 2)[-2]
        own = folder.folder.parent / fence
        own.mkdir(parents=True, exist_ok=True)
        path = own / manifest.name
        path.with_suffix(".sha256").write_text(manifest.sha256)
        temporary = path.with_name(f".{path.name}.restored")
        temporary.write_bytes(content)
        temporary.replace(path)
        logger.info("checkpoint.restored key=%s step=%s", key, manifest.step)
        return folder.refreshed()
    return folder


def _manifest(store: Store, key: str) -> Manifest | None:
    content = store.get(key)
    try:
        manifest = Manifest.model_validate(json.loads(content or b""))
    except (ValueError, ValidationError):
        return None
    # A name from elsewhere becomes a file here: only the one that the key itself has.
    return manifest if manifest.name == key.removesuffix(".json").rpartition("/")[2] else None
