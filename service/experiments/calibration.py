"""What runs really cost here: the estimates of a plan, corrected by what finished runs of a kind took and counted.

An estimate counts operations at the rates of one measured core. This deployment's machine, threads and neighbours are
other ones, by a factor that its own reports know. FLOPs are the same on every machine; what a plan does not know of
them is when work ends early, or goes on because a minimum is not good enough.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import median

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from bfc_core.packing import estimate_run, planned_flops
from bfc_core.specs import Recipe, RunSpec
from service.models import Report, Run, RunStatus

NEWEST, OF_A_PACK = 200, 10
"""Finished runs of a kind that are looked at, and how many of one pack: the present machine and code count, not last
year's, and not one busy moment of it."""

SOUGHT_AMONG = 4096
"""Newest runs among which these are chosen: ranking them by pack takes as long in a large database as in a small."""

LEAST = 5
"""Below so many a median says little, and the estimate stands as it is."""


_SUCCEEDED = bindparam("succeeded", RunStatus.SUCCEEDED, Run.status.type, literal_execute=True)
"""Written into the statement: an index of these runs alone is used for no parameter."""


@dataclass(frozen=True)
class Calibration:
    """What finished runs of one kind of learner say about its estimates."""

    factor: float
    """Median of seconds taken (FLOPs counted) over those estimated."""

    runs: int
    """Finished runs that were looked at; networks of one pack share its seconds and count as one."""

    median_error: float
    """e: half of these runs took between 1 / (1 + e) and 1 + e times the corrected estimate."""

    flops: "Calibration | None" = None
    """The same of the FLOPs, of those runs that counted them; None where they are too few."""


def calibrations(session: Session, kinds: Iterable[str]) -> dict[str, Calibration]:
    """The calibration of every kind of learner of which enough runs have succeeded here."""
    found: dict[str, Calibration] = {}
    for kind in set(kinds):
        seconds, flops = _ratios(session, kind)
        calibration = _calibration(seconds)
        if calibration is not None:
            found[kind] = replace(calibration, flops=_calibration(flops))
    return found


def _ratios(session: Session, kind: str) -> tuple[list[float], list[float]]:
    """What finished runs took over what was estimated: of their seconds, and of their FLOPs where they counted."""
    newest = (
        select(Run.id, Run.pack_id, Report.seconds, Report.flops, Run.finished_at)
        .join(Report, Report.run_id == Run.id)
        .where(Run.learner_kind == kind, Run.status == _SUCCEEDED, Report.seconds > 0)
        .order_by(Run.finished_at.desc(), Run.id.desc())
        .limit(SOUGHT_AMONG)
        .subquery()
    )
    order = newest.c.finished_at.desc(), newest.c.id.desc()
    rank = func.row_number().over(partition_by=newest.c.pack_id, order_by=order).label("place")
    placed = select(newest, rank).subquery()
    chosen = (
        select(placed)
        .where(placed.c.place <= OF_A_PACK)
        .order_by(placed.c.finished_at.desc(), placed.c.id.desc())
        .limit(NEWEST)
        .subquery()
    )
    # Specs last, and of those few: they are the widest column.
    rows = session.execute(
        select(Run.spec, chosen.c.pack_id, chosen.c.seconds, chosen.c.flops)
        .join(chosen, chosen.c.id == Run.id)
        .order_by(chosen.c.finished_at.desc(), chosen.c.id.desc())
    ).all()
    specs = [RunSpec.model_validate(row.spec) for row in rows]
    measured: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
    for place, (row, spec) in enumerate(zip(rows, specs, strict=True)):
        # Kernel runs are timed one by one: each is a measurement of its own.
        key = row.pack_id if isinstance(spec.learner, Recipe) else -1 - place
        measured[key].append((row.seconds, estimate_run(spec).seconds))
    seconds = [
        sum(took for took, _ in each) / sum(planned for _, planned in each) for each in measured.values()
    ]
    flops = [
        row.flops / planned
        for row, spec in zip(rows, specs, strict=True)
        if row.flops and (planned := planned_flops(spec))
    ]
    return seconds, flops


def _calibration(ratios: list[float]) -> Calibration | None:
    if len(ratios) < LEAST:
        return None
    factor = median(ratios)
    away = median(abs(math.log(ratio / factor)) for ratio in ratios)
    return Calibration(factor, len(ratios), math.expm1(away))
