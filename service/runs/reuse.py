"""Cells that have been answered already: found by their content hash, linked instead of computed again."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.models import Report, Run, RunStatus

HASHES_A_QUERY = 1000
"""Below the number of parameters that either database takes."""

ANSWERED = (RunStatus.SUCCEEDED, RunStatus.DIVERGED)
"""A divergence is repeated by the same spec and code as surely as a success; a failure is tried again."""


@dataclass(frozen=True)
class AnsweredCell:
    """A finished run that answers a cell, and the seconds it took."""

    run_id: UUID
    seconds: float


def answered_cells(session: Session, hashes: Sequence[str]) -> dict[str, AnsweredCell]:
    """The oldest finished run of every cell that has one, by cell hash."""
    found: dict[str, AnsweredCell] = {}
    for some in _chunks(sorted(set(hashes))):
        rows = session.execute(
            select(Run.cell_hash, Run.id, Report.seconds)
            .join(Report, Report.run_id == Run.id)
            .where(Run.cell_hash.in_(some), Run.status.in_(ANSWERED))
            .order_by(Run.created_at, Run.id)
        )
        for row in rows:
            found.setdefault(row.cell_hash, AnsweredCell(row.id, row.seconds))
    return found


def _chunks(values: Sequence[str]) -> list[Sequence[str]]:
    return [values[start : start + HASHES_A_QUERY] for start in range(0, len(values), HASHES_A_QUERY)]
