"""Where the attempts at a pack keep their files, and the result that outlives a worker.

``<data_dir>/packs/<pack>/<members>/<fence>/`` holds one attempt's checkpoints, log and result. ``members`` is a
hash over the runs that are executed together and the code version: a checkpoint or result of other runs or of
other code is never taken up.
"""

import hashlib
import json
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from pydantic import ValidationError

from bfc_core.specs import Report
from service.runs.cell import code_version
from service.runs.claims import Claim

RESULT = "result.json"
LOG = "child.log"
ARTIFACTS = "artifacts"
PACKS = "packs"
"""Folder of checkpoints, in the data folder and in the store."""

_TAIL_BYTES = 4096


@dataclass(frozen=True)
class PackFolder:
    """The files of one claim and of its predecessors."""

    folder: Path
    earlier: tuple[Path, ...]

    @classmethod
    def of(cls, data_dir: Path, claim: Claim) -> "PackFolder":
        """Make the folder of this attempt; ``earlier`` are those of earlier ones, newest first."""
        digest = hashlib.sha256(code_version().encode())
        for run_id in claim.run_ids:
            digest.update(run_id.bytes)
        members = data_dir.absolute() / PACKS / str(claim.pack_id) / digest.hexdigest()[:16]
        folder = members / f"{claim.fence:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder, ()).refreshed()

    def refreshed(self) -> "PackFolder":
        """The same folder with the earlier ones that are there now."""
        siblings = self.folder.parent.iterdir()
        earlier = sorted((entry for entry in siblings if entry.name < self.folder.name), reverse=True)
        return PackFolder(self.folder, tuple(earlier))

    @property
    def key(self) -> str:
        """What the keys of this attempt begin with, in the store."""
        return "/".join(self.folder.parts[-4:])

    @property
    def members_key(self) -> str:
        """What the keys of all attempts of these runs begin with."""
        return "/".join(self.folder.parts[-4:-1])

    @property
    def artifacts(self) -> Path:
        """Where the child writes what runs keep, one folder a run."""
        return self.folder / ARTIFACTS

    @property
    def result(self) -> Path:
        """Where the child writes its result."""
        return self.folder / RESULT

    @property
    def log(self) -> Path:
        """What the child wrote on stderr."""
        return self.folder / LOG

    def log_tail(self) -> str:
        """The end of the log, for whoever asks why a run failed."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def finished(self, claim: Claim) -> tuple["PackFolder", "PackResult"] | None:
        """The attempt that has finished but not committed, and its result; None where there is none."""
        for folder in (self.folder, *self.earlier):
            result = read_result(folder / RESULT, claim)
            if result is not None:
                return PackFolder(folder, ()), result
        return None


@dataclass(frozen=True)
class PackResult:
    """What a child left: a report a run, and the most memory that its process took for all of them."""

    reports: dict[UUID, Report]
    peak_memory_bytes: int | None


def read_result(file: Path, claim: Claim) -> PackResult | None:
    """Read a result file; None where it is missing, damaged or of other runs."""
    try:
        document = json.loads(file.read_text())
        texts = document["reports"]
        if hashlib.sha256("\n".join(texts).encode()).hexdigest() != document["sha256"]:
            return None
        reports = [Report.model_validate_json(text) for text in texts]
        peak = document.get("peak_memory_bytes")
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None
    if len(reports) != len(claim.runs):
        return None
    by_run = dict(zip(claim.run_ids, reports, strict=True))
    return PackResult(by_run, peak if isinstance(peak, int) else None)


def delete_packs(data_dir: Path, pack_ids: Collection[int]) -> None:
    """Delete every file of packs that have ended."""
    for pack_id in pack_ids:
        shutil.rmtree(data_dir.absolute() / PACKS / str(pack_id), ignore_errors=True)


def packs_on_disk(data_dir: Path) -> list[int]:
    """Packs that have files."""
    folder = data_dir.absolute() / PACKS
    if not folder.is_dir():
        return []
    return [int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()]
