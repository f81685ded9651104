"""A search for n* on the server: wait for it, read it, cancel it."""

import time
from collections.abc import Callable
from typing import Any

from pydantic import Field

from bfc_client.answers import Answer, ComplexityCell, ComplexityFit
from bfc_client.errors import WaitTimedOut
from bfc_client.transport import Transport, json_of, segment

POLL_SECONDS = 1.0


class ComplexitySearchState(Answer):
    """A search at one moment: brackets while it runs, n* with intervals once it has ended."""

    id: str
    name: str
    status: str
    message: str | None = None
    rounds: int
    runs: int
    full_grid_runs: int
    seconds: float = 0.0
    experiments: tuple[str, ...] = ()
    cells: tuple[ComplexityCell, ...] = ()
    fits: tuple[ComplexityFit, ...] = ()
    warnings: tuple[str, ...] = ()
    spec: dict[str, Any] = Field(default_factory=dict)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen by itself; what a quota has paused waits to be resumed."""
        return self.status != "running"

    def in_words(self) -> str:
        """How far it is, and what a full grid would have cost: "round 3, 48 runs (full grid: 96)"."""
        return f"round {self.rounds}, {self.runs} runs (full grid: {self.full_grid_runs})"


class ComplexitySearch:
    """A handle; ``state`` is what the server last said, ``refresh`` asks again."""

    def __init__(self, transport: Transport, state: ComplexitySearchState) -> None:
        self._transport = transport
        self.state = state
        self._path = f"/v1/complexity/{segment(state.id)}"

    @classmethod
    def start(cls, transport: Transport, body: dict[str, Any], idempotency_key: str) -> "ComplexitySearch":
        """Post a search; the server refuses what it cannot afford before anything is run."""
        headers = {"Idempotency-Key": idempotency_key}
        answer = json_of(transport.send("POST", "/v1/complexity", json=body, headers=headers))
        return cls(transport, ComplexitySearchState.model_validate(answer))

    @property
    def id(self) -> str:
        """The server's id, a UUID."""
        return self.state.id

    def refresh(self) -> "ComplexitySearch":
        """Ask for the present state."""
        self.state = ComplexitySearchState.model_validate(self._transport.get_json(self._path))
        return self

    def wait(
        self,
        timeout: float | None = None,
        *,
        on_round: Callable[[ComplexitySearchState], None] | None = None,
    ) -> "ComplexitySearch":
        """Return when the search has ended or is paused; ``on_round`` is told of every round that begins.

        Raises:
            WaitTimedOut: it took longer than ``timeout`` seconds; the work goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        told = 0
        while True:
            if on_round is not None and self.state.rounds > told:
                told = self.state.rounds
                on_round(self.state)
            if self.state.has_ended:
                return self
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimedOut(f"search {self.id} is still running after {timeout:g} s")
            time.sleep(POLL_SECONDS)
            self.refresh()

    def cancel(self) -> "ComplexitySearch":
        """End the search and whatever it waits for.

        Raises:
            Conflict: it has ended already.
        """
        answer = json_of(self._transport.send("POST", f"{self._path}/cancel"))
        self.state = ComplexitySearchState.model_validate(answer)
        return self

    def resume(self) -> "ComplexitySearch":
        """Go on with a search that a quota has paused.

        Raises:
            Conflict: it is not paused.
        """
        answer = json_of(self._transport.send("POST", f"{self._path}/resume"))
        self.state = ComplexitySearchState.model_validate(answer)
        return self
