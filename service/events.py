"""What happens to an experiment, as it happens, from the database's own event rows.

However many clients watch an experiment, its rows are polled once; sessions last for one query, so a client
that stays for days holds no connection.
"""

import asyncio
import json
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from sse_starlette.sse import AppStatus
from starlette.concurrency import run_in_threadpool

from service import models
from service.api_keys.repository import held_key
from service.database import Database
from service.experiments.repository import events_after, last_event_id, read_experiment, status_of

logger = logging.getLogger("service")

POLL_SECONDS = 0.25
PING_SECONDS = 15
DRAIN_SECONDS = 3
"""What streams have to end by themselves at shutdown, less than the server waits; then they are cut."""
KEY_SECONDS = 10.0
"""How long a stream may go on after its API key was revoked or has expired."""
BATCH = 200
KEPT = 1000
"""Events a feed keeps for those who watch; whoever is further behind reads the rows."""


@dataclass(frozen=True)
class Event:
    """One row of the events, encoded once for all clients."""

    id: int
    name: str
    data: str

    def message(self) -> dict[str, str]:
        """Answer what the stream sends."""
        return {"event": self.name, "id": str(self.id), "data": self.data}


class Feed:
    """The newest events of one experiment."""

    def __init__(self) -> None:
        self.watchers = 0
        self.newest = 0
        self.final: str | None = None
        """The state in which the experiment ended; every event up to it has been kept before it is set."""
        self.is_closed = False
        self.ready = asyncio.Event()
        self.changed = asyncio.Condition()
        self.task: asyncio.Task[None] | None = None
        self._kept: deque[Event] = deque()
        self._floor = 0

    def begin(self, newest: int) -> None:
        """Start after the event ``newest``; older ones are in the database only."""
        self.newest = self._floor = newest
        self.ready.set()

    def keep(self, events: list[Event]) -> None:
        """Append events; the oldest make room."""
        for event in events:
            self.newest = event.id
            self._kept.append(event)
            if len(self._kept) > KEPT:
                self._floor = self._kept.popleft().id

    def after(self, seen: int) -> list[Event] | None:
        """Events newer than ``seen``; None where some of them are no longer kept."""
        if seen < self._floor:
            return None
        return [event for event in self._kept if event.id > seen]

    async def wait(self, seen: int, seconds: float | None = None) -> None:
        """Return when something newer than ``seen`` is known, nothing more will come, or the time is over."""

        def is_over() -> bool:
            return self.newest > seen or self.final is not None or self.is_closed

        async with self.changed:
            try:
                await asyncio.wait_for(self.changed.wait_for(is_over), seconds)
            except TimeoutError:
                return


class Feeds:
    """The feeds of all experiments that anybody watches; one per process, used from its event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._feeds: dict[UUID, Feed] = {}
        self._held_keys: dict[UUID, float] = {}
        """When each key of a stream was last seen to hold; many clients share a key, which is looked up once."""
        self.streams = 0
        """Clients that are being streamed to."""

    @asynccontextmanager
    async def watching(self, experiment_id: UUID) -> AsyncIterator[Feed]:
        """Keep the experiment's feed alive; the first watcher starts it, the last one ends it."""
        feed = self._feeds.setdefault(experiment_id, Feed())
        feed.watchers += 1
        if feed.task is None:
            feed.task = asyncio.create_task(self._poll(experiment_id, feed))
        try:
            await feed.ready.wait()
            yield feed
        finally:
            feed.watchers -= 1
            if feed.watchers == 0:
                del self._feeds[experiment_id]
                feed.task.cancel()

    async def stream(
        self, experiment_id: UUID, after: int | None, key_id: UUID | None = None
    ) -> AsyncIterator[dict[str, str]]:
        """A snapshot, then every event after it, then ``end``.

        Args:
            experiment_id: an experiment that exists.
            after: the last event the client has seen, which takes the snapshot's place.
            key_id: the API key of the client, if there are keys; the stream is cut when it holds no longer.
        """
        self.streams += 1
        try:
            async for message in self._messages(experiment_id, after, key_id):
                yield message
        finally:
            self.streams -= 1

    async def _messages(
        self, experiment_id: UUID, after: int | None, key_id: UUID | None
    ) -> AsyncIterator[dict[str, str]]:
        async with self.watching(experiment_id) as feed:
            if after is None:
                state, seen = await run_in_threadpool(self._snapshot, experiment_id)
                yield {"event": "snapshot", "id": str(seen), "data": state}
            else:
                seen = after
            while await self._holds(key_id):
                events = feed.after(seen)
                if events is None:
                    events = await run_in_threadpool(self._rows, experiment_id, seen)
                for event in events:
                    yield event.message()
                    seen = event.id
                if events:
                    continue
                if feed.final is not None:
                    yield {"event": "end", "id": str(seen), "data": feed.final}
                    return
                if feed.is_closed:
                    return
                await feed.wait(seen, None if key_id is None else KEY_SECONDS)

    async def _holds(self, key_id: UUID | None) -> bool:
        """Whether the key of a stream holds, as far as was known ``KEY_SECONDS`` ago."""
        now = time.monotonic()
        if key_id is None or now - self._held_keys.get(key_id, -math.inf) < KEY_SECONDS:
            return True
        try:
            is_held = await run_in_threadpool(self._is_held, key_id)
        except SQLAlchemyError:  # looked up again when the database is back
            return True
        if is_held:
            self._held_keys[key_id] = now
        else:
            self._held_keys.pop(key_id, None)
        return is_held

    async def _poll(self, experiment_id: UUID, feed: Feed) -> None:
        while feed.final is None:
            try:
                if not feed.ready.is_set():
                    feed.begin(await run_in_threadpool(self._newest, experiment_id))
                events, final = await run_in_threadpool(self._news, experiment_id, feed.newest)
            except SQLAlchemyError as error:
                # Whoever watches keeps watching: the stream goes on when the database is back.
                logger.warning("events.database_unreachable error=%s", type(error).__name__)
                events, final = [], None
            feed.keep(events)
            feed.final = final
            feed.is_closed = AppStatus.should_exit
            if events or final is not None or feed.is_closed:
                async with feed.changed:
                    feed.changed.notify_all()
            if len(events) < BATCH:
                await asyncio.sleep(POLL_SECONDS)

    def _is_held(self, key_id: UUID) -> bool:
        with self._database.reading() as session:
            return held_key(session, key_id) is not None

    def _newest(self, experiment_id: UUID) -> int:
        with self._database.reading() as session:
            return last_event_id(session, experiment_id)

    def _rows(self, experiment_id: UUID, seen: int) -> list[Event]:
        with self._database.reading() as session:
            return [_encoded(row) for row in events_after(session, experiment_id, seen, BATCH)]

    def _news(self, experiment_id: UUID, seen: int) -> tuple[list[Event], str | None]:
        with self._database.reading() as session:
            # The status first: where it is the last one, the events read after it are all there will be.
            is_over = status_of(session, experiment_id).is_terminal
            events = [_encoded(row) for row in events_after(session, experiment_id, seen, BATCH)]
            if not is_over or len(events) == BATCH:
                return events, None
            return events, _state(read_experiment(session, experiment_id).model_dump(mode="json"))

    def _snapshot(self, experiment_id: UUID) -> tuple[str, int]:
        with self._database.reading() as session:
            # The id first: an event that comes in between is sent again rather than lost.
            seen = last_event_id(session, experiment_id)
            return _state(read_experiment(session, experiment_id).model_dump(mode="json")), seen


def _encoded(row: models.Event) -> Event:
    return Event(row.id, row.name.value, json.dumps(row.payload))


def _state(experiment: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in experiment.items() if name != "spec"})
