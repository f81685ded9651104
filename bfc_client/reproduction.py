"""A preset of the server: start it, wait for it, read the verdict."""

import uuid
from collections.abc import Callable
from typing import Literal

from pydantic import Field

from bfc_client.answers import Answer, ExperimentState
from bfc_client.experiment import Experiment
from bfc_client.transport import Transport, json_of, segment


class Expectation(Answer):
    """A number that must lie between ``low`` and ``high``; None is open."""

    sentence: str
    low: float | None = None
    high: float | None = None


class Finding(Expectation):
    """An expectation beside what was measured."""

    expected: str
    found: float | None = None
    holds: bool


class ReproductionEntry(Answer):
    """A preset the server knows."""

    name: str
    shows: str
    source: str = ""
    expectations: tuple[Expectation, ...] = ()


class Verdict(Answer):
    """Expected beside measured; ``unfinished`` while a run may still change."""

    name: str
    verdict: Literal["passed", "failed", "unfinished"]
    shows: str = ""
    findings: tuple[Finding, ...] = Field(default_factory=tuple)


class Reproduction:
    """A preset that was started; ``experiments`` holds its experiments by role."""

    def __init__(self, transport: Transport, name: str) -> None:
        self._transport = transport
        self.name = name
        # A lost answer is asked for again under the same key, so that one call starts a preset once.
        answer = json_of(
            transport.send(
                "POST",
                f"/v1/reproductions/{segment(name)}",
                headers={"Idempotency-Key": str(uuid.uuid4())},
            )
        )
        self.experiments = {
            role: Experiment(transport, ExperimentState.model_validate(state))
            for role, state in answer["experiments"].items()
        }

    def wait(
        self, timeout: float | None = None, *, on_start: Callable[[str, Experiment], None] | None = None
    ) -> "Reproduction":
        """Return when no run will change again; every experiment may take ``timeout`` seconds.

        Raises:
            WaitTimedOut: one of them took longer; the work goes on.
        """
        for role, experiment in self.experiments.items():
            if on_start is not None:
                on_start(role, experiment)
            experiment.wait(timeout, progress=on_start is not None)
        return self

    def verdict(self) -> Verdict:
        """Expected beside measured, on the newest experiments of this preset."""
        return Verdict.model_validate(
            self._transport.get_json(f"/v1/reproductions/{segment(self.name)}/check")
        )
