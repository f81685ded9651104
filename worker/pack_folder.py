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
        members = data_dir.absolute() / "packs" / str(claim.pack_id) / digest.hexdigest()[:16]
        folder = members / f"{claim.fence:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        earlier = sorted((entry for entry in members.iterdir() if entry.name < folder.name), reverse=True)
        return cls(folder, tuple(earlier))

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

    def finished_result(self, claim: Claim) -> dict[UUID, Report] | None:
        """Reports that an attempt has finished but not committed; None where there are none."""
        for folder in (self.folder, *self.earlier):
            reports = read_result(folder / RESULT, claim)
            if reports is not None:
                return reports
        return None


def read_result(file: Path, claim: Claim) -> dict[UUID, Report] | None:
    """Read a result file; None where it is missing, damaged or of other runs."""
    try:
        document = json.loads(file.read_text())
        texts = document["reports"]
        if hashlib.sha256("\n".join(texts).encode()).hexdigest() != document["sha256"]:
            return None
        reports = [Report.model_validate_json(text) for text in texts]
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None
    return dict(zip(claim.run_ids, reports, strict=True)) if len(reports) == len(claim.runs) else None


def delete_packs(data_dir: Path, pack_ids: Collection[int]) -> None:
    """Delete every file of packs that have ended."""
    for pack_id in pack_ids:
        shutil.rmtree(data_dir.absolute() / "packs" / str(pack_id), ignore_errors=True)


def packs_on_disk(data_dir: Path) -> list[int]:
    """Packs that have files."""
    folder = data_dir.absolute() / "packs"
    if not folder.is_dir():
        return []
    return [int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()]
