"""Which changes of status are allowed, and what the runs' statuses make of their experiment. Pure."""

from collections.abc import Mapping

from service.models import ExperimentStatus, PackStatus, RunStatus

RUN_TRANSITIONS: Mapping[RunStatus, frozenset[RunStatus]] = {
    RunStatus.QUEUED: frozenset({RunStatus.RUNNING, RunStatus.CANCELLED}),
    RunStatus.RUNNING: frozenset(
        {
            RunStatus.QUEUED,  # its attempt ended without a result
            RunStatus.CANCELLING,
            RunStatus.SUCCEEDED,
            RunStatus.DIVERGED,
            RunStatus.FAILED,
            RunStatus.CANCELLED,
        }
    ),
    # A result that was on its way when the cancel came is kept.
    RunStatus.CANCELLING: frozenset(
        {RunStatus.CANCELLED, RunStatus.SUCCEEDED, RunStatus.DIVERGED, RunStatus.FAILED}
    ),
    RunStatus.SUCCEEDED: frozenset(),
    RunStatus.DIVERGED: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.CANCELLED: frozenset(),
}

PACK_TRANSITIONS: Mapping[PackStatus, frozenset[PackStatus]] = {
    PackStatus.QUEUED: frozenset({PackStatus.RUNNING, PackStatus.CANCELLED}),
    PackStatus.RUNNING: frozenset(
        {
            PackStatus.QUEUED,
            PackStatus.FINISHED,
            PackStatus.FAILED,
            PackStatus.CANCELLED,
            PackStatus.SPLIT,
        }
    ),
    PackStatus.FINISHED: frozenset(),
    PackStatus.FAILED: frozenset(),
    PackStatus.CANCELLED: frozenset(),
    PackStatus.SPLIT: frozenset(),
}

RETRIABLE = frozenset({RunStatus.FAILED, RunStatus.CANCELLED})
"""Ends that are no answer: a person, and nobody else, may queue such a run again (``resumption.retry_run``)."""


class TransitionNotAllowedError(Exception):
    """Somebody asked for a change that the tables do not know: a defect, never a user's mistake."""

    def __init__(self, what: str, before: str, after: str) -> None:
        self.before = before
        self.after = after
        super().__init__(f"{what} cannot go from {before} to {after}")


def check_run(before: RunStatus, after: RunStatus) -> None:
    """Raise ``TransitionNotAllowedError`` unless a run may go from ``before`` to ``after``."""
    if after not in RUN_TRANSITIONS[before]:
        raise TransitionNotAllowedError("a run", before, after)


def check_pack(before: PackStatus, after: PackStatus) -> None:
    """Raise ``TransitionNotAllowedError`` unless a pack may go from ``before`` to ``after``."""
    if after not in PACK_TRANSITIONS[before]:
        raise TransitionNotAllowedError("a pack", before, after)


def experiment_status(
    runs: Mapping[RunStatus, int], *, started: bool, is_cancel_requested: bool, is_paused: bool = False
) -> ExperimentStatus:
    """What the number of runs per status makes of their experiment.

    Args:
        runs: number of runs per status.
        started: whether any run was ever claimed; a requeued experiment does not go back to ``queued``.
        is_cancel_requested: whether the whole experiment was asked to stop.
        is_paused: whether its packs are held; one that still saves its checkpoint counts as running.
    """
    count = {status: runs.get(status, 0) for status in RunStatus}
    if any(count[status] for status in RunStatus if not status.is_terminal):
        if is_cancel_requested:
            return ExperimentStatus.CANCELLING
        if is_paused and not count[RunStatus.RUNNING]:
            return ExperimentStatus.PAUSED
        touched = started or any(count[status] for status in RunStatus if status is not RunStatus.QUEUED)
        return ExperimentStatus.RUNNING if touched else ExperimentStatus.QUEUED
    answered = count[RunStatus.SUCCEEDED] + count[RunStatus.DIVERGED]
    if not count[RunStatus.FAILED] and not count[RunStatus.CANCELLED]:
        return ExperimentStatus.SUCCEEDED
    if count[RunStatus.CANCELLED] and (is_cancel_requested or not (answered or count[RunStatus.FAILED])):
        return ExperimentStatus.CANCELLED
    return ExperimentStatus.PARTIALLY_SUCCEEDED if answered else ExperimentStatus.FAILED
