"""``bfc webhooks``: who is told when an experiment has ended."""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from bfc_client.answers import Webhook
from bfc_client.client import connect
from bfc_client.command_line.arguments import AsJson, ExperimentName
from bfc_client.command_line.named import experiment_named
from bfc_client.command_line.output import (
    CommandRefused,
    ExitCode,
    json_to_stdout,
    table_to_stdout,
    to_stderr,
    to_stdout,
)
from bfc_client.command_line.tables import NOTHING, new_table
from bfc_client.experiment import Experiment


def webhooks(
    *,
    name: ExperimentName,
    add: Annotated[
        str | None, typer.Option(metavar="URL", help="call this address when it has ended")
    ] = None,
    remove: Annotated[str | None, typer.Option(metavar="ID", help="call this one no more")] = None,
    as_json: AsJson = False,
) -> None:
    """List the addresses that are called when an experiment has ended; add or remove one.

    The key of a new one's signatures is printed once and cannot be had again.
    """
    if add is not None and remove is not None:
        raise CommandRefused("give --add or --remove, not both", ExitCode.USAGE)
    with connect() as client:
        experiment = experiment_named(client, name)
        if add is not None:
            _add(experiment, add, as_json=as_json)
        elif remove is not None:
            experiment.remove_webhook(remove)
            to_stderr(f"{remove} is called no more")
        else:
            _print_list(experiment.webhooks(), as_json=as_json)


def _add(experiment: Experiment, url: str, *, as_json: bool) -> None:
    created = experiment.add_webhook(url)
    if as_json:
        json_to_stdout(created)
    else:
        to_stdout(created.secret)
        to_stderr(f"webhook {created.id}; the line above is the key of its signatures, shown this once")


def _print_list(found: list[Webhook], *, as_json: bool) -> None:
    if as_json:
        json_to_stdout([one.model_dump(mode="json") for one in found])
    elif found:
        table_to_stdout(_table(found))
    else:
        to_stderr("no webhooks; `bfc webhooks EXPERIMENT --add URL` makes one")


def _table(found: list[Webhook]) -> Table:
    table = new_table("id", "address", "status", "calls", "last error")
    for one in found:
        table.add_row(
            Text(str(one.id)), Text(one.url), one.status, str(one.attempts), Text(one.error or NOTHING)
        )
    return table
