"""Deleting measurements of runs that ended long ago. Runs, reports and metrics stay; the run says what is gone.

Deleted whole, not thinned: a curve with some of its points looks like a curve, and its reader cannot know.
"""

import logging
from datetime import timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from service.database import Database, database_now
from service.models import Measurement, Run

logger = logging.getLogger(__name__)

_RUNS_A_BATCH = 50
_ROWS_A_BATCH = 5000
"""Of one transaction: SQLite lets nobody else write meanwhile."""


def delete_old_measurements(database: Database, retention: timedelta) -> bool:
    """Delete one batch of what runs measured that ended before ``retention``; whether there may be more.

    Any number of processes may call it: each takes runs that nobody else holds.
    """
    with database.writing() as session:
        runs = _due(session, retention)
        if not runs:
            return False
        some = select(Measurement.id).where(Measurement.run_id.in_(runs)).limit(_ROWS_A_BATCH)
        deleted = session.execute(
            delete(Measurement)
            .where(Measurement.id.in_(some))
            .returning(Measurement.id)
            .execution_options(synchronize_session=False)
        ).all()
        if len(deleted) < _ROWS_A_BATCH:
            session.execute(
                update(Run)
                .where(Run.id.in_(runs))
                .values(measurements_deleted_at=database_now(session))
                .execution_options(synchronize_session=False)
            )
    logger.info("measurements.deleted runs=%s rows=%s", len(runs), len(deleted))
    return True


def _due(session: Session, retention: timedelta) -> list[object]:
    """Runs to be swept, held: one that is tried again meanwhile waits, and begins with its old points gone."""
    return list(
        session.scalars(
            select(Run.id)
            .where(Run.measurements_deleted_at.is_(None), Run.finished_at < database_now(session) - retention)
            .order_by(Run.finished_at)
            .limit(_RUNS_A_BATCH)
            .with_for_update(skip_locked=True, key_share=True)
        )
    )
