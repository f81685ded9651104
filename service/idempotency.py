"""Doing once what is asked for often under one Idempotency-Key."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Header
from fastapi.responses import JSONResponse
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from service.database import LOCK_NOT_AVAILABLE, Database, database_now, sql_state
from service.errors import IdempotencyKeyInFlightError, IdempotencyKeyReusedError, QuotaExceededError
from service.models import IdempotencyKey
from service.models.base import JsonObject

IN_FLIGHT_SECONDS = 2
"""How long a request waits for another with the same key before it answers 409."""

IdempotencyKeyHeader = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)]


@dataclass(frozen=True)
class Submission:
    """The answer to a submission, and whether it was given before."""

    answer: JsonObject
    replayed: bool


def accepted(submission: Submission, location: str) -> JSONResponse:
    """202 with where the work is, and whether this was answered before."""
    headers = {"Location": location, "Retry-After": "1"}
    if submission.replayed:
        headers["Idempotency-Replayed"] = "true"
    return JSONResponse(submission.answer, 202, headers)


class KeyedRequest:
    """A request of an owner, under a key or without one; ``body`` is all that tells it from another."""

    def __init__(self, owner: str, key: str | None, body: str) -> None:
        self._owner = owner
        self._key = key
        self._body_hash = hashlib.sha256(body.encode()).hexdigest()

    def once(self, database: Database, store: Callable[[], JsonObject]) -> Submission:
        """The answer that is known, or that of ``store``, which must ``remember`` it in its own transaction.

        Raises:
            IdempotencyKeyReusedError: the key belongs to another body.
            IdempotencyKeyInFlightError: the first request with this key takes its time.
        """
        if (known := self._known(database)) is not None:
            return known
        try:
            return Submission(store(), replayed=False)
        except (IntegrityError, QuotaExceededError):
            # Another request with the same key was faster: its answer stands, and it may be what fills the quota.
            if (known := self._known(database)) is None:
                raise
            return known
        except OperationalError as error:
            if sql_state(error) == LOCK_NOT_AVAILABLE:
                raise IdempotencyKeyInFlightError from error
            raise

    def remember(self, session: Session, answer: JsonObject, experiment_id: UUID | None = None) -> None:
        """Keep the answer with what it tells of: both are stored or neither is."""
        if self._key is None:
            return
        if session.get_bind().dialect.name == "postgresql":
            # The other transaction with this key may have stopped half-way; nobody shall wait for it for long.
            session.execute(text(f"SET LOCAL lock_timeout = '{IN_FLIGHT_SECONDS}s'"))
        session.add(
            IdempotencyKey(
                owner=self._owner,
                key=self._key,
                body_hash=self._body_hash,
                experiment_id=experiment_id,
                status_code=202,
                answer=answer,
                created_at=database_now(session),
            )
        )
        session.flush()

    def _known(self, database: Database) -> Submission | None:
        if self._key is None:
            return None
        with database.reading() as session:
            row = session.get(IdempotencyKey, (self._owner, self._key))
            if row is None:
                return None
            if row.body_hash != self._body_hash:
                raise IdempotencyKeyReusedError
            return Submission(row.answer, replayed=True)
