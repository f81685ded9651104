"""Deleting files of runs whose time is over, and those that no report came to stand for."""

import logging
from datetime import timedelta

from sqlalchemy import and_, delete, or_, select

from service.database import Database, database_now
from service.models import Artifact, Pack, Run
from service.store.base import Store

logger = logging.getLogger(__name__)

ORPHAN_AGE = timedelta(days=1)
"""A worker that was cut off may still write what it has announced: its rows stay so long after they were written."""

_BATCH = 100


def delete_expired(database: Database, store: Store, retention: timedelta) -> int:
    """Delete artifacts older than ``retention``, and announced ones whose attempt is over; how many.

    The file goes first: a row without a file is deleted next time, a file without a row would stay for ever.

    Raises:
        StoreUnavailableError: the store does not answer; what was deleted until then is.
    """
    with database.reading() as session:
        now = database_now(session)
        orphaned = and_(
            Artifact.published_at.is_(None),
            Artifact.created_at < now - ORPHAN_AGE,
            or_(Pack.finished_at.is_not(None), Pack.fence > Artifact.fence),
        )
        rows = session.execute(
            select(Artifact.id, Artifact.uri)
            .join(Run, Run.id == Artifact.run_id)
            .join(Pack, Pack.id == Run.pack_id)
            .where(or_(Artifact.created_at < now - retention, orphaned))
            .order_by(Artifact.id)
            .limit(_BATCH)
        ).all()
    for row in rows:
        store.delete(row.uri)
    if rows:
        with database.writing() as session:
            session.execute(delete(Artifact).where(Artifact.id.in_([row.id for row in rows])))
        logger.info("artifacts.deleted count=%s", len(rows))
    return len(rows)
