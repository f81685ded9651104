"""From files that a child left to artifacts: checked, announced, uploaded; seen once the reports are stored."""

import hashlib
import logging
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from sqlalchemy.exc import DBAPIError

from service.config import Settings
from service.database import Database
from service.runs import claims
from service.runs.claims import AnnouncedArtifact, Claim, FencedError
from service.store.base import KeyTakenError, Store, StoreUnavailableError

logger = logging.getLogger(__name__)

NAME = re.compile(r"[a-z][a-z0-9_-]{0,60}\.safetensors")
MEDIA_TYPE = "application/vnd.safetensors"
ARTIFACTS = "artifacts"
"""What the keys of artifacts begin with: ``artifacts/<run>/<pack>-<fence>/<name>``."""

_RETRY_SECONDS = 1.0


class NotAnArtifactError(Exception):
    """The child left something that is not kept: another format, another name, too large."""


class ArtifactPublication:
    """The files of one claim."""

    def __init__(self, store: Store, database: Database, claim: Claim, settings: Settings) -> None:
        self._store, self._database, self._claim = store, database, claim
        self._limit_bytes = settings.artifact_limit_bytes

    def publish(self, folder: Path, is_fenced: Callable[[], bool], draining: threading.Event) -> bool:
        """Write every file in ``folder/<member>/`` to the store, trying until store and database have answered.

        Returns:
            Whether all are there; False where this worker ends before.

        Raises:
            NotAnArtifactError: a file is not kept; nothing was written.
            FencedError: the claim is over.
        """
        found = self._found(folder)
        if not found:
            return True
        while True:
            try:
                with self._database.writing() as session:
                    artifacts = [artifact for artifact, _ in found]
                    replaced = claims.announce_artifacts(session, self._claim, artifacts)
                for key in replaced:
                    self._store.delete(key)
                for artifact, file in found:
                    self._store.put(artifact.key, file.read_bytes())
            except (DBAPIError, StoreUnavailableError) as error:
                logger.warning("artifacts.delayed pack_id=%s error=%s", self._claim.pack_id, error)
            except KeyTakenError as error:
                raise NotAnArtifactError(str(error)) from error
            else:
                return True
            if is_fenced():
                raise FencedError(self._claim.pack_id, self._claim.fence)
            if draining.is_set():
                return False
            time.sleep(_RETRY_SECONDS)

    def _found(self, folder: Path) -> list[tuple[AnnouncedArtifact, Path]]:
        found: list[tuple[AnnouncedArtifact, Path]] = []
        for member, run in enumerate(self._claim.runs):
            own = folder / str(member)
            for file in sorted(own.iterdir()) if own.is_dir() else []:
                self._check(file)
                artifact = AnnouncedArtifact(
                    run.id,
                    file.name,
                    f"{ARTIFACTS}/{run.id}/{self._claim.pack_id}-{self._claim.fence:08d}/{file.name}",
                    MEDIA_TYPE,
                    hashlib.sha256(file.read_bytes()).hexdigest(),
                    file.stat().st_size,
                )
                found.append((artifact, file))
        return found

    def _check(self, file: Path) -> None:
        if file.is_symlink() or not file.is_file() or not NAME.fullmatch(file.name):
            raise NotAnArtifactError(f"{file.name[:80]!r} is not a name that is kept")
        size = file.stat().st_size
        if size > self._limit_bytes:
            raise NotAnArtifactError(
                f"{file.name} has {size} bytes, this deployment keeps {self._limit_bytes} (BFC_ARTIFACT_LIMIT_BYTES)"
            )
        try:
            # Arrays and text only: pickles and archives have no such header, whatever they are called.
            with safe_open(file, framework="numpy"):
                pass
        except SafetensorError as error:
            raise NotAnArtifactError(f"{file.name} is not in the safetensors format: {error}") from error
