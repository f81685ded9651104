"""Files of runs: listed, and saved once what has arrived is what the server says it is."""

import hashlib
import os
import tempfile
from pathlib import Path

from bfc_client.answers import Artifact
from bfc_client.errors import DamagedDownload, ServerFailed, ServerUnreachable
from bfc_client.transport import ATTEMPTS, Transport, segment


def list_artifacts(transport: Transport, run_id: str) -> list[Artifact]:
    """Files that a run left."""
    items = transport.get_json(f"/v1/runs/{segment(run_id)}/artifacts")["items"]
    return [Artifact.model_validate(item) for item in items]


def download_artifact(transport: Transport, artifact: Artifact, folder: Path) -> Path:
    """Save a file under its run's id and its own name; one that is there with these bytes is left as it is.

    Raises:
        DamagedDownload: it did not arrive as it is, in any attempt.
        OSError: it cannot be written there.
    """
    # The name has passed the pattern of ``Artifact`` and the id is a UUID: neither leads out of the folder.
    target = folder / str(artifact.run_id) / artifact.name
    if target.is_file() and _sha256(target) == artifact.sha256:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            if _arrived(transport, artifact, target):
                return target
        except (ServerUnreachable, ServerFailed):
            if attempt == ATTEMPTS:
                raise
        if attempt < ATTEMPTS:
            transport.pause_before(attempt)
    raise DamagedDownload(
        f"{artifact.name} of run {artifact.run_id} did not arrive with SHA-256 {artifact.sha256} in {ATTEMPTS} attempts"
    )


def _arrived(transport: Transport, artifact: Artifact, target: Path) -> bool:
    """Stream into a file beside the target, which takes its place if the bytes are the right ones."""
    path = f"/v1/runs/{artifact.run_id}/artifacts/{segment(artifact.name)}"
    descriptor, name = tempfile.mkstemp(prefix=f".{artifact.name}.", dir=target.parent)
    partial = Path(name)
    try:
        digest = hashlib.sha256()
        with os.fdopen(descriptor, "wb") as file, transport.stream(path, {"Accept": "*/*"}) as response:
            for piece in response.iter_bytes():
                digest.update(piece)
                file.write(piece)
        if digest.hexdigest() != artifact.sha256:
            return False
        partial.replace(target)
        return True
    finally:
        partial.unlink(missing_ok=True)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
