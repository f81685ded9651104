"""What an owner may have going at a time. Counted over the owner's work, in the transaction that adds to it."""

from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.auth import Principal
from service.database import database_now
from service.errors import QuotaExceededError
from service.models import ApiKey, Experiment, Pack, PackStatus, Report, Run
from service.runs.run_counts import LIVE

DAY = timedelta(hours=24)


def check_quotas(session: Session, principal: Principal, *, runs: int, seconds: float) -> None:
    """Raise where ``runs`` more runs of ``seconds`` estimated seconds would be too many.

    Raises:
        QuotaExceededError: names the quota, what is used and what was asked.
    """
    if principal.live_runs_limit is None and principal.daily_seconds_limit is None:
        return
    # Two submissions of one owner take turns here, or both would see the other's runs as not there yet.
    session.scalars(
        select(ApiKey.id).where(ApiKey.owner == principal.owner).order_by(ApiKey.id).with_for_update()
    ).all()
    if principal.live_runs_limit is not None:
        live = live_runs_of(session, principal.owner)
        if live + runs > principal.live_runs_limit:
            raise QuotaExceededError("live_runs", principal.live_runs_limit, live, runs)
    if principal.daily_seconds_limit is not None:
        used = seconds_of(session, principal.owner)
        if used + seconds > principal.daily_seconds_limit:
            raise QuotaExceededError("daily_seconds", principal.daily_seconds_limit, used, seconds)


def live_runs_of(session: Session, owner: str) -> int:
    """Runs of an owner that are queued or running."""
    counted = session.scalar(
        select(func.count())
        .select_from(Run)
        .join(Experiment, Experiment.id == Run.experiment_id)
        .where(Experiment.owner == owner, Run.status.in_(LIVE))
    )
    return counted or 0


def seconds_of(session: Session, owner: str) -> float:
    """Seconds that an owner's runs took in the last 24 hours, and are expected to take that are not done."""
    since = database_now(session) - DAY
    done = session.scalar(
        select(func.sum(Report.seconds))
        .join(Run, Run.id == Report.run_id)
        .join(Experiment, Experiment.id == Run.experiment_id)
        .where(Experiment.owner == owner, Report.created_at >= since)
    )
    waiting = session.scalar(
        select(func.sum(Pack.estimated_seconds))
        .join(Experiment, Experiment.id == Pack.experiment_id)
        .where(Experiment.owner == owner, Pack.status.in_([PackStatus.QUEUED, PackStatus.RUNNING]))
    )
    return float(done or 0.0) + float(waiting or 0.0)
