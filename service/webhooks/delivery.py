"""Calls the webhooks of experiments that have ended: from a thread of the workers, never from a request.

At least once: a worker that dies between the call and the note makes another call it again; receivers tell by the
header ``webhook-id``. Any number of workers share the work, each row is one's for the time of a call.
"""

import json
import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from service.config import Settings
from service.database import Database, database_now
from service.models import Experiment, ExperimentStatus, Webhook
from service.runs.run_counts import counts_of
from service.webhooks.address import AddressRefusedError, destination_of
from service.webhooks.sending import CallFailedError, post
from service.webhooks.signing import secret_of, signature

logger = logging.getLogger(__name__)

MOST_ATTEMPTS = 10
_CAP = timedelta(hours=6)
_BATCH = 10


@dataclass(frozen=True)
class _Call:
    webhook_id: UUID
    message_id: UUID
    url: str
    attempt: int
    body: bytes


class WebhookDelivery:
    """``start`` makes the thread, where the deployment calls webhooks at all."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="webhooks", daemon=True)

    def start(self) -> None:
        """Begin, unless webhooks are off."""
        if self._settings.webhook_allow:
            self._thread.start()

    def stop(self) -> None:
        """End after the present call."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(2 * self._settings.webhook_timeout.total_seconds())

    def tick(self) -> int:
        """Call what is due; how many."""
        with self._database.writing() as session:
            calls = self._take(session)
        for call in calls:
            self._call(call)
        return len(calls)

    def _repeat(self) -> None:
        while not self._stopped.wait(self._settings.reconcile_interval.total_seconds()):
            try:
                self.tick()
            except SQLAlchemyError as error:
                logger.warning("webhooks.database_unavailable error=%s", type(error).__name__)
            except Exception:
                logger.exception("webhooks.tick_failed")

    def _take(self, session: Session) -> list[_Call]:
        now = database_now(session)
        ended = [status for status in ExperimentStatus if status.is_terminal]
        rows = session.execute(
            select(Webhook, Experiment)
            .join(Experiment, Experiment.id == Webhook.experiment_id)
            .where(Webhook.next_at <= now, Experiment.status.in_(ended))
            .order_by(Webhook.next_at)
            .limit(_BATCH)
            .with_for_update(skip_locked=True, of=Webhook)
        ).all()
        calls = []
        for webhook, experiment in rows:
            webhook.attempts += 1
            # Nobody else's until this batch must have ended, one way or the other.
            webhook.next_at = now + 3 * len(rows) * self._settings.webhook_timeout
            # The same however often this end is told of, and another once a retry has led to another end.
            message_id = uuid5(webhook.id, str(experiment.finished_at))
            body = _body(session, experiment)
            calls.append(_Call(webhook.id, message_id, webhook.url, webhook.attempts, body))
        return calls

    def _call(self, call: _Call) -> None:
        error: str | None = None
        is_final = False
        secret = self._settings.webhook_secret
        assert secret is not None, "the settings have none without the other"
        try:
            destination = destination_of(call.url, self._settings.webhook_allow)
            now = int(datetime.now(UTC).timestamp())
            message = str(call.message_id)
            headers = {
                "Content-Type": "application/json",
                "User-Agent": "bfc-webhook/1",
                "webhook-id": message,
                "webhook-timestamp": str(now),
                "webhook-signature": signature(
                    secret_of(secret.get_secret_value(), call.webhook_id), message, now, call.body
                ),
            }
            post(destination, call.body, headers, self._settings.webhook_timeout.total_seconds())
        except AddressRefusedError as refused:
            error, is_final = str(refused), True
        except CallFailedError as failed:
            error, is_final = str(failed), call.attempt >= MOST_ATTEMPTS
        except Exception:
            # One address shall not keep all others from being called.
            logger.exception("webhook.defect id=%s", call.webhook_id)
            error, is_final = "the call could not be made", True
        self._note(call, error, is_final=is_final)

    def _note(self, call: _Call, error: str | None, *, is_final: bool) -> None:
        wait = min(_CAP, self._settings.webhook_retry_first * 2 ** (call.attempt - 1))
        with self._database.writing() as session:
            now = database_now(session)
            session.execute(
                update(Webhook)
                .where(Webhook.id == call.webhook_id, Webhook.attempts == call.attempt)
                .values(
                    error=error,
                    delivered_at=now if error is None else None,
                    next_at=None if error is None or is_final else now + wait,
                )
            )
        if error is not None:
            logger.warning(
                "webhook.failed id=%s attempt=%s is_final=%s error=%s",
                call.webhook_id, call.attempt, is_final, error,
            )  # fmt: skip


def _body(session: Session, experiment: Experiment) -> bytes:
    assert experiment.finished_at is not None
    counts = counts_of(session, experiment)
    document = {
        "type": "experiment.ended",
        "timestamp": experiment.finished_at.isoformat(),
        "data": {
            "experiment_id": str(experiment.id),
            "status": experiment.status.value,
            "runs": {status.value: count for status, count in sorted(counts.items()) if count},
            "path": f"/v1/experiments/{experiment.id}",
        },
    }
    return json.dumps(document).encode()
