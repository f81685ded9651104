"""Tables, one noun a file, the status words beside their table."""

from service.models.api_key import ApiKey, Scope
from service.models.artifact import Artifact
from service.models.attempt import Attempt, AttemptOutcome
from service.models.base import Base, UtcDateTime
from service.models.complexity_search import ComplexityRound, ComplexitySearch, ComplexitySearchStatus
from service.models.event import Event, EventName
from service.models.experiment import Experiment, ExperimentRun, ExperimentStatus
from service.models.idempotency import IdempotencyKey
from service.models.measurement import Measurement
from service.models.pack import Pack, PackStatus
from service.models.report import Report
from service.models.run import Run, RunStatus
from service.models.tally import Tally, TallyName
from service.models.webhook import Webhook
from service.models.worker import Worker

__all__ = [
    "ApiKey",
    "Artifact",
    "Attempt",
    "AttemptOutcome",
    "Base",
    "ComplexityRound",
    "ComplexitySearch",
    "ComplexitySearchStatus",
    "Event",
    "EventName",
    "Experiment",
    "ExperimentRun",
    "ExperimentStatus",
    "IdempotencyKey",
    "Measurement",
    "Pack",
    "PackStatus",
    "Report",
    "Run",
    "RunStatus",
    "Scope",
    "Tally",
    "TallyName",
    "UtcDateTime",
    "Webhook",
    "Worker",
]
