"""The door: a client of one server."""

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from bfc_client.answers import Artifact, CatalogueEntry, ExperimentState, Plan
from bfc_client.artifacts import download_artifact, list_artifacts
from bfc_client.complexity_search import ComplexitySearch, ComplexitySearchState
from bfc_client.discovery import url_of
from bfc_client.experiment import Experiment
from bfc_client.reproduction import Reproduction, ReproductionEntry
from bfc_client.settings import read_settings
from bfc_client.spec_check import checked_spec
from bfc_client.transport import Transport, json_of, segment
from bfc_core.specs import ComplexitySpec, ExperimentSpec


def connect(url: str | None = None, token: str | None = None, timeout: float | None = None) -> "Client":
    """A client of ``url``; without one, of BFC_URL; without that, of the stack that ``bfc up`` keeps running.

    ``timeout`` is how many seconds one answer may take. Nothing is sent yet.

    Raises:
        ServerNotFound: no address was given and none is to be found.
        InvalidSettings: the address or the timeout is none.
    """
    settings = read_settings()
    return Client(
        Transport(
            url or url_of(settings),
            token or settings.token,
            settings.timeout_seconds if timeout is None else timeout,
        )
    )


class Client:
    """One server. Usable as a context manager; otherwise the connections close with the process."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.experiments = Experiments(transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<BFC at {self.url}>"

    @property
    def url(self) -> str:
        """The server's address."""
        return self._transport.url

    def close(self) -> None:
        """Give the connections back."""
        self._transport.close()

    def learners(self) -> list[CatalogueEntry]:
        """Every learner the server knows."""
        return _catalogue(self._transport, "/v1/learners")

    def targets(self) -> list[CatalogueEntry]:
        """Every target the server knows."""
        return _catalogue(self._transport, "/v1/targets")

    def reproductions(self) -> list[ReproductionEntry]:
        """Every preset the server knows."""
        items = self._transport.get_json("/v1/reproductions")["items"]
        return [ReproductionEntry.model_validate(item) for item in items]

    def reproduce(self, name: str) -> Reproduction:
        """Start a preset's experiments.

        Raises:
            NotFound: there is no such preset.
        """
        return Reproduction(self._transport, name)

    def search_complexity(
        self,
        spec: ComplexitySpec | Mapping[str, Any] | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        **fields: Any,  # noqa: ANN401 - the fields of ComplexitySpec, checked by it
    ) -> ComplexitySearch:
        """Ask how many samples every learner needs: ``search_complexity(name=…, target=…, learners=…, dim=…, eps=…)``.

        The server bisects n. A lost answer is asked for again under the same Idempotency-Key, so that one call starts
        one search.

        Raises:
            InvalidSpec: the spec is wrong; nothing was sent.
            Unprocessable: the server refuses it, for instance for a kernel beyond its memory at n_max.
        """
        if spec is not None and fields:
            raise TypeError("give a spec or its fields, not both")
        checked = checked_spec(dict(fields) if spec is None else spec, ComplexitySpec)
        body = checked.model_dump(mode="json", exclude_unset=True)
        return ComplexitySearch.start(self._transport, body, idempotency_key or str(uuid.uuid4()))

    def complexity_search(self, search_id: str) -> ComplexitySearch:
        """One search.

        Raises:
            NotFound: there is none with this id.
        """
        answer = self._transport.get_json(f"/v1/complexity/{segment(search_id)}")
        return ComplexitySearch(self._transport, ComplexitySearchState.model_validate(answer))

    def artifacts(self, run_id: UUID | str) -> list[Artifact]:
        """Files that a run left.

        Raises:
            NotFound: there is no such run.
            NotAllowed: only others asked for it.
        """
        return list_artifacts(self._transport, str(run_id))

    def download(self, artifact: Artifact, folder: Path) -> Path:
        """Save a file as ``folder/run id/name``; what arrives is compared with its SHA-256 before it gets this name.

        Raises:
            NotFound: it has expired.
            DamagedDownload: it did not arrive as it is, in any attempt.
            OSError: it cannot be written there.
        """
        return download_artifact(self._transport, artifact, folder)

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Whether the server can do its work, and its facts about database, broker and worker.

        Raises:
            ServerUnreachable: nothing answers.
        """
        response = self._transport.send("GET", "/readyz", retry=False, refusals=False)
        facts = json_of(response)
        return response.is_success, facts if isinstance(facts, dict) else {}


class Experiments:
    """The experiments of a server."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        spec: ExperimentSpec | Mapping[str, Any] | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        force: bool = False,
        **fields: Any,  # noqa: ANN401 - the fields of ExperimentSpec, checked by it
    ) -> Experiment:
        """Start an experiment: ``create(name=…, target=…, learners=…, n=…, dim=…, seeds=…)`` or a spec.

        The spec is checked here first. A lost answer is asked for again under the same
        Idempotency-Key, so that one call makes one experiment. Cells that a finished run answers are
        reused; with ``force`` they are computed anew.

        Raises:
            InvalidSpec: the spec is wrong; nothing was sent.
            Unprocessable: the server refuses it, for instance for a kernel beyond its memory.
        """
        response = self._transport.send(
            "POST",
            "/v1/experiments",
            params={"force": "true"} if force else None,
            json=_body(spec, fields),
            headers={"Idempotency-Key": idempotency_key or str(uuid.uuid4())},
        )
        return Experiment(self._transport, ExperimentState.model_validate(json_of(response)))

    def plan(
        self,
        spec: ExperimentSpec | Mapping[str, Any] | None = None,
        /,
        *,
        force: bool = False,
        **fields: Any,  # noqa: ANN401 - the fields of ExperimentSpec, checked by it
    ) -> Plan:
        """What ``create`` would start: runs, packs, seconds, bytes. Nothing is stored.

        Raises:
            InvalidSpec: the spec is wrong; nothing was sent.
            Unprocessable: the server refuses it.
        """
        response = self._transport.send(
            "POST",
            "/v1/experiments",
            params={"dry_run": "true"} | ({"force": "true"} if force else {}),
            json=_body(spec, fields),
        )
        return Plan.model_validate(json_of(response))

    def get(self, experiment_id: str) -> Experiment:
        """One experiment.

        Raises:
            NotFound: there is none with this id.
        """
        answer = self._transport.get_json(f"/v1/experiments/{segment(experiment_id)}")
        return Experiment(self._transport, ExperimentState.model_validate(answer))

    def list(self, status: str | None = None) -> Iterator[Experiment]:
        """Every experiment, newest first, fetched page by page as it is asked for."""
        params = {} if status is None else {"status": status}
        for item in self._transport.pages("/v1/experiments", params):
            yield Experiment(self._transport, ExperimentState.model_validate(item))


def _body(spec: ExperimentSpec | Mapping[str, Any] | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    if spec is not None and fields:
        raise TypeError("give a spec or its fields, not both")
    checked = checked_spec(dict(fields) if spec is None else spec, ExperimentSpec)
    return checked.model_dump(mode="json", exclude_unset=True)


def _catalogue(transport: Transport, path: str) -> list[CatalogueEntry]:
    # One page holds a whole catalogue, and the endpoint takes no limit.
    return [CatalogueEntry.model_validate(item) for item in transport.get_json(path)["items"]]
