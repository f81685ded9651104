"""One experiment: wait for it, read it, draw it, cancel it."""

import time
from collections.abc import Callable, Iterator
from html import escape
from typing import Any
from uuid import UUID

from httpx_sse import EventSource

from bfc_client.answers import (
    Artifact,
    Comparison,
    Complexity,
    CreatedWebhook,
    Curve,
    Event,
    ExperimentState,
    ExperimentStatus,
    Run,
    Webhook,
)
from bfc_client.artifacts import list_artifacts
from bfc_client.chart import Chart
from bfc_client.errors import ServerUnreachable, WaitTimedOut
from bfc_client.progress import ProgressDisplay
from bfc_client.results import Results
from bfc_client.transport import ATTEMPTS, Transport, delay_before, json_of, segment

LONG_POLL_SECONDS = 20.0
LEAST_POLL_SECONDS = 0.25
LAST_EVENT = "end"


class Experiment:
    """A handle; ``state`` is what the server last said, ``refresh`` asks again."""

    def __init__(self, transport: Transport, state: ExperimentState) -> None:
        self._transport = transport
        self.state = state
        self._path = f"/v1/experiments/{segment(state.id)}"

    def __repr__(self) -> str:
        return f"<Experiment {self.id} {self.name!r} {self.status}: {self.state.runs.in_words()}>"

    def _repr_html_(self) -> str:
        return (
            f"<p><strong>{escape(self.name)}</strong> <code>{escape(self.id)}</code>: {escape(self.status)} "
            f"({escape(self.state.runs.in_words())})</p>"
        )

    @property
    def id(self) -> str:
        """The server's id, a UUID."""
        return self.state.id

    @property
    def name(self) -> str:
        """The name in the spec."""
        return self.state.name

    @property
    def status(self) -> ExperimentStatus:
        """As of the last answer."""
        return self.state.status

    def refresh(self) -> "Experiment":
        """Ask for the present state."""
        self.state = ExperimentState.model_validate(self._transport.get_json(self._path))
        return self

    def changes(self, timeout: float | None = None) -> Iterator[ExperimentState]:
        """The state now and after each change, until no run will change again. Held by long-polling.

        Raises:
            WaitTimedOut: ``timeout`` seconds passed before.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        etag: str | None = None
        while True:
            left = LONG_POLL_SECONDS if deadline is None else deadline - time.monotonic()
            # The first question has no ETag and is answered at once.
            wait = 0.0 if etag is None else max(0.0, min(LONG_POLL_SECONDS, left))
            started = time.monotonic()
            response = self._transport.send(
                "GET",
                self._path,
                params={"wait": round(wait, 3)} if wait else {},
                headers={} if etag is None else {"If-None-Match": etag},
                extra_seconds=wait,
            )
            if response.status_code != 304:  # noqa: PLR2004 - Not Modified
                etag = response.headers.get("ETag")
                self.state = ExperimentState.model_validate(json_of(response))
                yield self.state
            if self.status.is_terminal:
                return
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimedOut(
                    f"experiment {self.id} is still {self.status} after {timeout:g} s "
                    f"({self.state.runs.in_words()}); it goes on, wait again"
                )
            time.sleep(max(0.0, LEAST_POLL_SECONDS - (time.monotonic() - started)))

    def wait(
        self,
        timeout: float | None = None,
        *,
        progress: bool = False,
        on_change: Callable[[ExperimentState], None] | None = None,
    ) -> "Experiment":
        """Return when no run will change again. ``progress`` shows a bar (on standard error).

        A failed experiment is no exception: read ``status``.

        Raises:
            WaitTimedOut: ``timeout`` seconds passed before; the work goes on.
        """
        with ProgressDisplay(enabled=progress) as display:
            for state in self.changes(timeout):
                display.update(state)
                if on_change is not None:
                    on_change(state)
        return self

    def runs(self, status: str | None = None) -> list[Run]:
        """Every run, or those with one status."""
        params = {} if status is None else {"status": status}
        return [Run.model_validate(item) for item in self._transport.pages(f"{self._path}/runs", params)]

    def comparison(self) -> Comparison:
        """Cells, paired ratios and backward gain over the runs that have finished."""
        return Comparison.model_validate(self._transport.get_json(f"{self._path}/comparison"))

    def curves(self, metric: str = "nmse") -> list[Curve]:
        """Error over n of every learner, dim and alphas."""
        answer = self._transport.get_json(f"{self._path}/curves", {"metric": metric})
        return [Curve.model_validate(curve) for curve in answer["curves"]]

    def complexity(self, eps: float = 0.1, delta: float = 0.2, metric: str = "nmse") -> Complexity:
        """n*(eps, delta): samples at which a share 1 − delta of the seeds has error ≤ eps, and its growth."""
        asked: dict[str, str | float] = {"eps": eps, "delta": delta, "metric": metric}
        return Complexity.model_validate(self._transport.get_json(f"{self._path}/complexity", asked))

    def manifest(self) -> dict[str, Any]:
        """Spec, resolved defaults, versions and hashes."""
        manifest: dict[str, Any] = self._transport.get_json(f"{self._path}/manifest")
        return manifest

    def results(self) -> Results:
        """One row for each run."""
        return Results.from_ndjson(self.export("ndjson"))

    def export(self, suffix: str) -> bytes:
        """The result table as a file: "csv", "parquet" or "ndjson"."""
        response = self._transport.send(
            "GET", f"{self._path}/results.{segment(suffix)}", headers={"Accept": "*/*"}
        )
        return response.content

    def chart(self, name: str = "comparison") -> Chart:
        """A chart of the server, for instance "comparison" or "feature-error"; drawn when it is asked for."""
        return Chart(self._transport, f"{self._path}/charts/{segment(name)}")

    def artifacts(self) -> Iterator[Artifact]:
        """Files that its finished runs left (``budget.keep_predictor``), asked for run by run.

        Raises:
            NotAllowed: the experiment is somebody else's.
        """
        for run in self.runs():
            if run.status in {"succeeded", "diverged"}:
                yield from list_artifacts(self._transport, run.id)

    def webhooks(self) -> list[Webhook]:
        """Addresses that are called when it has ended, oldest first.

        Raises:
            NotAllowed: the experiment is somebody else's.
        """
        items = self._transport.get_json(f"{self._path}/webhooks")["items"]
        return [Webhook.model_validate(item) for item in items]

    def add_webhook(self, url: str) -> CreatedWebhook:
        """Have ``url`` called when it has ended. The answer alone holds the key of the signatures: keep it.

        Not repeated when its answer is lost, since that would be a second webhook; ``webhooks`` says what there is.

        Raises:
            Unprocessable: the deployment does not call this address.
            Conflict: the deployment calls none, or the experiment has as many as it may.
        """
        response = self._transport.send("POST", f"{self._path}/webhooks", json={"url": url}, retry=False)
        return CreatedWebhook.model_validate(json_of(response))

    def remove_webhook(self, webhook_id: UUID | str) -> None:
        """Call an address no more.

        Raises:
            NotFound: the experiment has no such webhook.
        """
        self._transport.send("DELETE", f"{self._path}/webhooks/{segment(str(webhook_id))}", retry=False)

    def cancel(self) -> "Experiment":
        """Ask every run that has not finished to stop.

        Raises:
            Conflict: the experiment has already finished.
        """
        response = self._transport.send("POST", f"{self._path}/cancel")
        self.state = ExperimentState.model_validate(json_of(response))
        return self

    def events(self, after: int | None = None) -> Iterator[Event]:
        """Server-sent events until the experiment ends; resumed after the last one when the line breaks.

        ``after`` is the id of an event already seen.

        Raises:
            ServerUnreachable: the line broke and could not be had again.
        """
        last_id = None if after is None else str(after)
        failures = 0
        while True:
            headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
            if last_id is not None:
                headers["Last-Event-ID"] = last_id
            try:
                with self._transport.stream(f"{self._path}/events", headers) as response:
                    for sent in EventSource(response).iter_sse():
                        failures = 0
                        last_id = sent.id or last_id
                        data = sent.json() if sent.data else {}
                        yield Event(
                            id=int(sent.id) if sent.id.isdigit() else None,
                            name=sent.event,
                            data=data if isinstance(data, dict) else {"value": data},
                        )
                        if sent.event == LAST_EVENT:
                            return
                broken: ServerUnreachable | None = None
            except ServerUnreachable as error:
                broken = error
            failures += 1
            if failures >= ATTEMPTS:
                raise broken or ServerUnreachable(
                    self._transport.url, "the event stream ended before the experiment did"
                )
            time.sleep(delay_before(failures))
