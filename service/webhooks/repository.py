"""Storing and reading webhooks."""

from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from service.database import database_now
from service.errors import WebhookNotFoundError, WebhooksFullError
from service.models import Experiment, Webhook
from service.webhooks.schemas import WebhookRead

MOST_WEBHOOKS = 5
"""Of one experiment."""


def add_webhook(session: Session, experiment_id: UUID, url: str) -> Webhook:
    """Store one; an experiment that has ended already is told of at once.

    Raises:
        WebhooksFullError: the experiment has as many as it may.
    """
    # Held, so that two requests at once do not both find room.
    session.scalar(
        select(Experiment.id).where(Experiment.id == experiment_id).with_for_update(key_share=True)
    )
    count = session.scalar(select(func.count()).where(Webhook.experiment_id == experiment_id))
    if (count or 0) >= MOST_WEBHOOKS:
        raise WebhooksFullError(MOST_WEBHOOKS)
    now = database_now(session)
    webhook = Webhook(experiment_id=experiment_id, url=url, attempts=0, next_at=now, created_at=now)
    session.add(webhook)
    session.flush()
    return webhook


def list_webhooks(session: Session, experiment_id: UUID) -> list[WebhookRead]:
    """Webhooks of an experiment, oldest first."""
    rows = session.scalars(
        select(Webhook).where(Webhook.experiment_id == experiment_id).order_by(Webhook.created_at, Webhook.id)
    )
    return [read(row) for row in rows]


def delete_webhook(session: Session, experiment_id: UUID, webhook_id: UUID) -> None:
    """Delete one; a call that is under way is made.

    Raises:
        WebhookNotFoundError: the experiment has none of this id.
    """
    deleted = session.execute(
        delete(Webhook)
        .where(Webhook.id == webhook_id, Webhook.experiment_id == experiment_id)
        .returning(Webhook.id)
    ).first()
    if deleted is None:
        raise WebhookNotFoundError(webhook_id)


def read(row: Webhook) -> WebhookRead:
    """A row as the API shows it."""
    open_status = "waiting" if row.next_at is not None else "given_up"
    return WebhookRead(
        id=row.id,
        experiment_id=row.experiment_id,
        url=row.url,
        status="delivered" if row.delivered_at is not None else open_status,
        attempts=row.attempts,
        error=row.error,
        created_at=row.created_at,
        delivered_at=row.delivered_at,
    )
