"""``bfc search``: a search for n* started, or one that was started before followed, resumed or cancelled."""

from pathlib import Path
from typing import Annotated

import typer

from bfc_client.client import Client, connect
from bfc_client.command_line.arguments import AsJson
from bfc_client.command_line.complexity import complexity_table, fit_line
from bfc_client.command_line.output import (
    CommandRefused,
    ExitCode,
    json_to_stdout,
    table_to_stdout,
    to_stderr,
    to_stdout,
)
from bfc_client.command_line.spec_file import read_spec
from bfc_client.command_line.tables import number
from bfc_client.complexity_search import ComplexitySearch, ComplexitySearchState
from bfc_core.specs import ComplexitySpec


def search(
    *,
    search_id: Annotated[
        str | None,
        typer.Argument(metavar="SEARCH", help="follow this one, by its id", show_default=False),
    ] = None,
    spec: Annotated[
        Path | None, typer.Option("--spec", "-f", help="start one: YAML or JSON; - is standard input")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="let SEARCH, paused by a quota, go on")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="end SEARCH and what it waits for")] = False,
    as_json: AsJson = False,
) -> None:
    """Find how many samples each learner needs by bisecting n, round by round. Ctrl-C leaves the work running."""
    if (search_id is None) == (spec is None):
        raise CommandRefused("give a spec to start a search, or the id of one to follow", ExitCode.USAGE)
    if (resume or cancel) and (search_id is None or (resume and cancel)):
        raise CommandRefused("give the id of one search to --resume or to --cancel", ExitCode.USAGE)
    checked = None if spec is None else read_spec(spec, ComplexitySpec)
    with connect() as client:
        found = _found(client, checked, search_id)
        if cancel:
            found.cancel()
        elif resume:
            found.resume()
        state = _followed(found)
    if as_json:
        json_to_stdout(state)
    else:
        _print(state)
    if state.status != "succeeded" and not cancel:
        raise typer.Exit(ExitCode.RUN_FAILED)


def _found(client: Client, spec: ComplexitySpec | None, search_id: str | None) -> ComplexitySearch:
    if spec is None:
        return client.complexity_search(search_id or "")
    found = client.search_complexity(spec)
    to_stderr(f"search {found.id}")
    return found


def _followed(found: ComplexitySearch) -> ComplexitySearchState:
    try:
        return found.wait(on_round=lambda state: to_stderr(state.in_words())).state
    except KeyboardInterrupt:
        to_stderr(f"no longer watching; the work goes on: `bfc search {found.id}`")
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _print(state: ComplexitySearchState) -> None:
    table_to_stdout(complexity_table(state.cells))
    for fit in state.fits:
        to_stdout(fit_line(fit))
    to_stdout(f"{state.status}: {state.in_words()}, {number(state.seconds)} s of computing")
    for warning in (*state.warnings, *([state.message] if state.message else [])):
        to_stderr(f"note: {warning}")
    if state.status == "paused":
        to_stderr(f"  → `bfc search {state.id} --resume` once there is room")
