"""What the API says of webhooks."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from service.webhooks.address import LONGEST_URL


class WebhookCreate(BaseModel):
    """An address to be called when the experiment has ended."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[
        str, Field(min_length=1, max_length=LONGEST_URL, description="https://…, of this deployment's list")
    ]


class WebhookRead(BaseModel):
    """Where a webhook stands. ``error`` is why the last call did not succeed."""

    id: UUID
    experiment_id: UUID
    url: str
    status: Literal["waiting", "delivered", "given_up"]
    attempts: int
    error: str | None
    created_at: datetime
    delivered_at: datetime | None


class WebhookCreated(WebhookRead):
    """With the key of its signatures, which is shown this once."""

    secret: str


class WebhookList(BaseModel):
    """Every webhook of an experiment; there are few."""

    items: list[WebhookRead]
