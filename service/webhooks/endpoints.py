"""/v1/experiments/{experiment_id}/webhooks."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Response
from fastapi.openapi.models import Example

from service.auth import PrincipalDep
from service.dependencies import DatabaseDep, ReadingDep, SettingsDep, refuse_unknown_parameters
from service.errors import FieldProblem, WebhookRefusedError, WebhooksOffError
from service.experiments.repository import get_experiment
from service.webhooks.address import AddressRefusedError, destination_of
from service.webhooks.repository import add_webhook, delete_webhook, list_webhooks, read
from service.webhooks.schemas import WebhookCreate, WebhookCreated, WebhookList
from service.webhooks.signing import secret_of, shown

router = APIRouter(
    prefix="/v1/experiments/{experiment_id}/webhooks",
    tags=["webhooks"],
    dependencies=[Depends(refuse_unknown_parameters)],
)

EXAMPLE = {"an address": Example(value={"url": "https://lab.example.org/bfc"})}


@router.post("", status_code=201, operation_id="webhooks_create", summary="Call an address at the end")
def create(
    experiment_id: UUID,
    body: Annotated[WebhookCreate, Body(openapi_examples=EXAMPLE)],
    settings: SettingsDep,
    database: DatabaseDep,
    principal: PrincipalDep,
) -> WebhookCreated:
    """Have an address called when the experiment has ended; the answer alone shows the key of the signatures.

    The call is a POST signed by the Standard Webhooks convention, tried again with growing delay until it is answered
    with 2xx. Redirects are not followed, and addresses that are not public are not called.
    """
    if not settings.webhook_allow or settings.webhook_secret is None:
        raise WebhooksOffError
    try:
        destination_of(body.url, settings.webhook_allow)
    except AddressRefusedError as error:
        raise WebhookRefusedError(
            str(error), (FieldProblem("#/url", "address_refused", str(error)),)
        ) from error
    with database.writing() as session:
        principal.check_owns(get_experiment(session, experiment_id).owner)
        webhook = add_webhook(session, experiment_id, body.url)
    secret = secret_of(settings.webhook_secret.get_secret_value(), webhook.id)
    return WebhookCreated(**read(webhook).model_dump(), secret=shown(secret))


@router.get("", operation_id="webhooks_list", summary="Webhooks of an experiment")
def get_all(experiment_id: UUID, session: ReadingDep, principal: PrincipalDep) -> WebhookList:
    """List them for the experiment's owner: an address may be a secret itself."""
    principal.check_owns(get_experiment(session, experiment_id).owner)
    return WebhookList(items=list_webhooks(session, experiment_id))


@router.delete(
    "/{webhook_id}", status_code=204, operation_id="webhooks_delete", summary="Call an address no more"
)
def delete(experiment_id: UUID, webhook_id: UUID, database: DatabaseDep, principal: PrincipalDep) -> Response:
    """Delete a webhook."""
    with database.writing() as session:
        principal.check_owns(get_experiment(session, experiment_id).owner)
        delete_webhook(session, experiment_id, webhook_id)
    return Response(status_code=204)
