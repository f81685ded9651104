"""Refusals of the API, named for the fact they carry; ``error_handlers`` turns them into problem+json."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from service.models import ComplexitySearchStatus, ExperimentStatus, RunStatus, Scope


@dataclass(frozen=True)
class FieldProblem:
    """One thing wrong with one place of the request. ``pointer`` is a JSON pointer fragment, "#/n/0"."""

    pointer: str
    code: str
    detail: str


class ServiceError(Exception):
    """Base: a status code, a code for programs, a title for people, and problems of single fields."""

    status_code = 400
    code = "bad_request"
    title = "Bad request"
    headers: Mapping[str, str] = {}

    def __init__(
        self, detail: str, errors: tuple[FieldProblem, ...] = (), facts: Mapping[str, Any] | None = None
    ) -> None:
        self.detail = detail
        self.errors = errors
        self.facts = facts or {}
        """Further members of the problem, for programs."""
        super().__init__(detail)


class ExperimentNotFoundError(ServiceError):
    """No experiment has this id."""

    status_code, code, title = 404, "experiment_not_found", "Experiment not found"

    def __init__(self, experiment_id: UUID) -> None:
        super().__init__(f"there is no experiment {experiment_id}")


class ComplexitySearchNotFoundError(ServiceError):
    """No search for n* has this id."""

    status_code, code, title = 404, "complexity_search_not_found", "Search not found"

    def __init__(self, search_id: UUID) -> None:
        super().__init__(f"there is no complexity search {search_id}")


class RunNotFoundError(ServiceError):
    """No run has this id."""

    status_code, code, title = 404, "run_not_found", "Run not found"

    def __init__(self, run_id: UUID) -> None:
        super().__init__(f"there is no run {run_id}")


class ArtifactNotFoundError(ServiceError):
    """A run has no file of this name, or has it no longer."""

    status_code, code, title = 404, "artifact_not_found", "Artifact not found"

    def __init__(self, run_id: UUID, name: str) -> None:
        super().__init__(
            f"run {run_id} has no artifact {name!r}; its budget did not keep it, or its time is over"
        )


class WebhookNotFoundError(ServiceError):
    """An experiment has no webhook of this id."""

    status_code, code, title = 404, "webhook_not_found", "Webhook not found"

    def __init__(self, webhook_id: UUID) -> None:
        super().__init__(f"the experiment has no webhook {webhook_id}")


class WebhooksOffError(ServiceError):
    """This deployment calls nobody."""

    status_code, code, title = 409, "webhooks_off", "Webhooks are off"

    def __init__(self) -> None:
        super().__init__(
            "this deployment calls no webhooks; its operator turns them on with BFC_WEBHOOK_ALLOW and "
            "BFC_WEBHOOK_SECRET"
        )


class WebhookRefusedError(ServiceError):
    """The address is none that this deployment calls."""

    status_code, code, title = 422, "webhook_refused", "Webhook refused"


class WebhooksFullError(ServiceError):
    """The experiment has as many webhooks as it may."""

    status_code, code, title = 409, "webhooks_full", "Too many webhooks"

    def __init__(self, limit: int) -> None:
        super().__init__(f"an experiment has at most {limit} webhooks; delete one first")


class StoreAwayError(ServiceError):
    """The store of files does not answer."""

    status_code, code, title = 503, "store_unavailable", "Store unavailable"
    headers: Mapping[str, str] = {"Retry-After": "10"}

    def __init__(self) -> None:
        super().__init__("the store that holds files does not answer; ask again in a moment")


class KindNotFoundError(ServiceError):
    """The catalogue has no such kind."""

    status_code, code, title = 404, "kind_not_found", "Kind not found"

    def __init__(self, noun: str, kind: str, known: list[str]) -> None:
        super().__init__(f"there is no {noun} of kind {kind!r}; there are {', '.join(known)}")


class ReproductionNotFoundError(ServiceError):
    """There is no preset of this name."""

    status_code, code, title = 404, "reproduction_not_found", "Reproduction not found"

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"there is no reproduction {name!r}; there are {', '.join(known)}")


class ReproductionNotStartedError(ServiceError):
    """Nothing of a preset was ever submitted here."""

    status_code, code, title = 409, "reproduction_not_started", "Reproduction not started"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} was not started here yet; POST /v1/reproductions/{name} starts it")


class ChartNotFoundError(ServiceError):
    """An experiment has no chart of this name."""

    status_code, code, title = 404, "chart_not_found", "Chart not found"

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"there is no chart {name!r}; there are {', '.join(known)}")


class ApiKeyNotFoundError(ServiceError):
    """No key that holds has this id."""

    status_code, code, title = 404, "api_key_not_found", "API key not found"

    def __init__(self, key_id: UUID) -> None:
        super().__init__(f"there is no API key {key_id} that is not revoked")


class KeyMissingError(ServiceError):
    """No key, or none that holds; which of them is nobody's business."""

    status_code, code, title = 401, "key_missing", "API key needed"
    headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}

    def __init__(self) -> None:
        super().__init__("send an API key that is neither expired nor revoked: Authorization: Bearer bfc_…")


class ScopeMissingError(ServiceError):
    """The key holds, but not for this."""

    status_code, code, title = 403, "scope_missing", "Scope missing"

    def __init__(self, scope: Scope) -> None:
        super().__init__(f"this needs a key with the scope {scope}", facts={"allowed": [scope.value]})


class NotTheOwnerError(ServiceError):
    """A thing of another owner."""

    status_code, code, title = 403, "not_the_owner", "Not the owner"

    def __init__(self) -> None:
        super().__init__("it belongs to another owner; only they or an admin may change it")


class RateLimitedError(ServiceError):
    """The key asks faster than it may."""

    status_code, code, title = 429, "rate_limited", "Too many requests"

    def __init__(self, seconds: float) -> None:
        super().__init__("this key asks faster than it may; wait as long as Retry-After says")
        self.headers = {"Retry-After": str(max(1, math.ceil(seconds)))}


class QuotaExceededError(ServiceError):
    """More than the key's quota allows; nothing was stored."""

    status_code, code, title = 429, "quota_exceeded", "Quota exceeded"
    headers: Mapping[str, str] = {"Retry-After": "60"}

    def __init__(self, quota: str, limit: float, used: float, asked: float) -> None:
        super().__init__(
            f"the quota {quota} of this key is {limit:g}: {used:g} are used and {asked:g} were asked for"
        )


class PlanRefusedError(ServiceError):
    """The experiment is well formed but would not fit this deployment."""

    status_code, code, title = 422, "plan_refused", "The experiment does not fit"


class BudgetTooSmallError(ServiceError):
    """A search for n* could not even begin."""

    status_code, code, title = 422, "budget_too_small", "The budget is too small"

    def __init__(self, max_runs: int, one_size: int) -> None:
        detail = f"one size with all seeds is {one_size} runs, more than max_runs = {max_runs}"
        super().__init__(detail, (FieldProblem("#/max_runs", "budget_too_small", detail),))


class MetricMissingError(ServiceError):
    """A search would look for a number that no run has."""

    status_code, code, title = 422, "metric_missing", "No such metric"

    def __init__(self, metric: str) -> None:
        detail = f"this target has no {metric}: only classification has; ask for nmse"
        super().__init__(detail, (FieldProblem("#/metric", "metric_missing", detail),))


class CursorInvalidError(ServiceError):
    """A cursor that this API did not give out."""

    status_code, code, title = 422, "cursor_invalid", "Invalid cursor"

    def __init__(self) -> None:
        super().__init__(
            "the cursor was not given out by this list; start again without one",
            (FieldProblem("#/query/cursor", "cursor_invalid", "not a cursor of this list"),),
        )


class IdempotencyKeyReusedError(ServiceError):
    """The key belongs to another body."""

    status_code, code, title = 422, "idempotency_key_reused", "Idempotency-Key reused"

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key was used with another body; use a new key for a new request")


class IdempotencyKeyInFlightError(ServiceError):
    """The first request with this key has not ended yet."""

    status_code, code, title = 409, "idempotency_key_in_flight", "Idempotency-Key in flight"
    headers: Mapping[str, str] = {"Retry-After": "1"}

    def __init__(self) -> None:
        super().__init__("another request with this Idempotency-Key is being answered; ask again in a moment")


class NotInThisStateError(ServiceError):
    """The action does not fit the present status."""

    status_code, code, title = 409, "not_in_this_state", "Not in its present state"

    def __init__(self, noun: str, noun_id: UUID, action: str, status: str, allowed: list[str]) -> None:
        super().__init__(
            f"{noun} {noun_id} is {status}; it can be {action} while {', '.join(allowed)}",
            facts={"current": status, "allowed": allowed},
        )


class AlreadyFinishedError(ServiceError):
    """Too late: the experiment, run or search has ended."""

    status_code, code, title = 409, "already_finished", "Already finished"

    def __init__(
        self, noun: str, noun_id: UUID, status: ExperimentStatus | RunStatus | ComplexitySearchStatus
    ) -> None:
        live = [word.value for word in type(status) if not word.is_terminal]
        super().__init__(
            f"{noun} {noun_id} is {status}; it can be cancelled while {', '.join(live)}",
            facts={"current": status.value, "allowed": live},
        )
