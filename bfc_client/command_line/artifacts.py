"""``bfc artifacts``: what an experiment's runs left, listed or saved."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from bfc_client.answers import Artifact
from bfc_client.client import connect
from bfc_client.command_line.arguments import AsJson, ExperimentName
from bfc_client.command_line.named import experiment_named
from bfc_client.command_line.output import (
    CommandRefused,
    json_to_stdout,
    table_to_stdout,
    to_stderr,
    to_stdout,
)
from bfc_client.command_line.tables import bytes_in_words, new_table


def artifacts(
    *,
    name: ExperimentName,
    run: Annotated[str | None, typer.Option(help="of this run alone, by its id")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="save them in this folder, one folder a run")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the files that an experiment's runs kept (budget.keep_predictor), or save them with -o FOLDER.

    What arrives is compared with its SHA-256 before it gets its name; what is there already is not fetched again.
    """
    with connect() as client:
        found = list(experiment_named(client, name).artifacts() if run is None else client.artifacts(run))
        if output is None:
            _print_list(found, as_json=as_json)
            return
        saved = []
        for artifact in found:
            try:
                saved.append(client.download(artifact, output))
            except OSError as error:
                raise CommandRefused(f"cannot write to {output}: {error.strerror}") from error
            if not as_json:
                to_stdout(str(saved[-1]))
    if as_json:
        json_to_stdout(
            [
                artifact.model_dump(mode="json") | {"path": str(path)}
                for artifact, path in zip(found, saved, strict=True)
            ]
        )
    _say_none(found)


def _print_list(found: Sequence[Artifact], *, as_json: bool) -> None:
    if as_json:
        json_to_stdout([artifact.model_dump(mode="json") for artifact in found])
    elif found:
        table_to_stdout(_table(found))
    _say_none(found)


def _say_none(found: Sequence[Artifact]) -> None:
    if not found:
        to_stderr('no files; a run keeps its network with "budget": {"keep_predictor": true}')


def _table(found: Sequence[Artifact]) -> Table:
    table = new_table("run", "name", "size", "SHA-256", "kept until")
    for one in found:
        table.add_row(
            Text(str(one.run_id)),
            Text(one.name),
            bytes_in_words(one.size_bytes),
            Text(one.sha256),
            f"{one.expires_at:%Y-%m-%d %H:%M}",
        )
    return table
