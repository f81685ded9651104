"""How long runs really take here: the estimates of a plan, corrected by what finished runs of a kind took.

An estimate counts operations at the rates of one measured core. This deployment's machine, threads and neighbours are
other ones, by a factor that its own reports know.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from sqlalchemy import select
from sqlalchemy.orm import Session

from bfc_core.packing import estimate_run
from bfc_core.specs import RunSpec
from service.models import Report, Run, RunStatus

NEWEST = 200
"""Finished runs of a kind that are looked at: the present machine and code count, not last year's."""

LEAST = 5
"""Below so many a median says little, and the estimate stands as it is."""


@dataclass(frozen=True)
class Calibration:
    """What finished runs of one kind of learner say about its estimates."""

    factor: float
    """Median of seconds taken over seconds estimated."""

    runs: int
    """Finished runs that were looked at."""

    median_error: float
    """e: half of these runs took between 1 / (1 + e) and 1 + e times the corrected estimate."""


def calibrations(session: Session, kinds: Iterable[str]) -> dict[str, Calibration]:
    """The calibration of every kind of learner of which enough runs have succeeded here."""
    found = {kind: _calibration(_ratios(session, kind)) for kind in set(kinds)}
    return {kind: calibration for kind, calibration in found.items() if calibration is not None}


def _ratios(session: Session, kind: str) -> list[float]:
    rows = session.execute(
        select(Run.spec, Report.seconds)
        .join(Report, Report.run_id == Run.id)
        .where(Run.learner_kind == kind, Run.status == RunStatus.SUCCEEDED, Report.seconds > 0)
        .order_by(Report.created_at.desc(), Run.id)
        .limit(NEWEST)
    ).all()
    return [row.seconds / estimate_run(RunSpec.model_validate(row.spec)).seconds for row in rows]


def _calibration(ratios: list[float]) -> Calibration | None:
    if len(ratios) < LEAST:
        return None
    factor = median(ratios)
    away = median(abs(math.log(ratio / factor)) for ratio in ratios)
    return Calibration(factor, len(ratios), math.expm1(away))
