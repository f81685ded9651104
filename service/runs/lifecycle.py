"""The one place that changes the status of runs and packs: every change by its name.

The database is the truth and a broker message only a wake-up: a pack is accepted by being committed, owned by
being claimed (fence + 1, a lease), and ended by one guarded transaction. Callers commit, by leaving
``Database.writing``. Lock order everywhere: packs by id, then experiments by id.
"""

from service.runs.acceptance import accept
from service.runs.aftermath import POISON
from service.runs.cancellation import (
    ExperimentAlreadyFinishedError,
    RunAlreadyFinishedError,
    cancel_experiment,
    cancel_run,
)
from service.runs.claim_ends import (
    attempt_outcome,
    complete,
    crash,
    fail,
    finish_cancelled,
    release,
    settle_cancelled,
)
from service.runs.claims import Claim, ClaimedRun, UnreadablePackError
from service.runs.dead_owners import has_expired, reap, take_over
from service.runs.moves import Failure, Wakeup
from service.runs.pack_queue import claim, due_queues, due_wakeups, has_due_wakeups

__all__ = [
    "POISON",
    "Claim",
    "ClaimedRun",
    "ExperimentAlreadyFinishedError",
    "Failure",
    "RunAlreadyFinishedError",
    "UnreadablePackError",
    "Wakeup",
    "accept",
    "attempt_outcome",
    "cancel_experiment",
    "cancel_run",
    "claim",
    "complete",
    "crash",
    "due_queues",
    "due_wakeups",
    "fail",
    "finish_cancelled",
    "has_due_wakeups",
    "has_expired",
    "reap",
    "release",
    "settle_cancelled",
    "take_over",
]
