"""Accepting a search: every size it may come to must be affordable before the first is run."""

from bfc_core.specs import ComplexitySpec, has_classes
from service.auth import Principal
from service.complexity_searches.progress import begin
from service.complexity_searches.repository import read_search
from service.config import Settings
from service.database import Database
from service.errors import BudgetTooSmallError, MetricMissingError
from service.experiments.data_sets import check_data_set
from service.experiments.planning import cells_of, plan
from service.idempotency import KeyedRequest, Submission
from service.jobs import Publisher
from service.models.base import JsonObject
from service.runs.moves import Wakeup


def start(
    spec: ComplexitySpec,
    key: str | None,
    principal: Principal,
    database: Database,
    publisher: Publisher,
    settings: Settings,
) -> Submission:
    """Check the largest size of every learner, store the search, then send the wake-ups of its first round.

    Under a known key answer what was answered.

    Raises:
        PlanRefusedError: a learner does not fit the deployment at ``n_max``; nothing was stored.
        MetricMissingError: the target has no such metric; nothing was stored.
        BudgetTooSmallError: ``max_runs`` does not pay for one size with all seeds; nothing was stored.
        QuotaExceededError: the first round would be more than the API key allows; nothing was stored.
        IdempotencyKeyReusedError: the key belongs to another body.
        IdempotencyKeyInFlightError: the first request with this key takes its time.
    """
    # Neither this nor what follows is in the spec's own checks: stored searches must stay readable.
    if spec.metric == "error" and not has_classes(spec.target):
        raise MetricMissingError(spec.metric)
    largest = spec.experiment(range(len(spec.learners)), spec.dim, (spec.n_max,), spec.seeds)
    # Every bracket has ends with as many.
    if largest.cell_count() > spec.max_runs:
        raise BudgetTooSmallError(spec.max_runs, largest.cell_count())
    check_data_set(spec.target, settings.data_sets_folder)
    plan(largest, cells_of(largest), settings.pack_memory_limit_bytes)
    request = KeyedRequest(principal.owner, key, f"complexity|{spec.canonical_json()}")
    wakeups: list[Wakeup] = []

    def store() -> JsonObject:
        with database.writing() as session:
            search, to_send = begin(session, spec, principal, settings)
            session.flush()
            answer = read_search(session, search.id).model_dump(mode="json")
            request.remember(session, answer)
        wakeups.extend(to_send)
        return answer

    submission = request.once(database, store)
    publisher.publish(wakeups)
    return submission
