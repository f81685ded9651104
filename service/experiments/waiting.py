"""Long polls: an answer that waits until there is something to say. No connection is held meanwhile."""

import time
from uuid import UUID

from starlette.concurrency import run_in_threadpool

from service.conditional import Representation
from service.database import Database
from service.events import Feeds
from service.experiments.repository import read_experiment


async def awaited_experiment(
    database: Database, feeds: Feeds, experiment_id: UUID, seconds: float, if_none_match: str | None
) -> Representation:
    """Read an experiment; with ``seconds`` when it has ended, differs from what the client has, or they are over.

    A client that names no tag has what it would have been answered at once.

    Raises:
        ExperimentNotFoundError: there is none of this id.
    """
    found, is_over = await run_in_threadpool(_read, database, experiment_id)
    if is_over or seconds <= 0 or (if_none_match is not None and not found.is_among(if_none_match)):
        return found
    known, deadline = found.etag, time.monotonic() + seconds
    async with feeds.watching(experiment_id) as feed:
        while True:
            # Before reading: whatever changes after this line ends the wait below.
            seen = feed.newest
            found, is_over = await run_in_threadpool(_read, database, experiment_id)
            remaining = deadline - time.monotonic()
            if is_over or found.etag != known or remaining <= 0 or feed.is_closed:
                return found
            await feed.wait(seen, remaining)


def _read(database: Database, experiment_id: UUID) -> tuple[Representation, bool]:
    with database.reading() as session:
        experiment = read_experiment(session, experiment_id)
    return Representation(experiment), experiment.status.is_terminal
