"""An experiment by what a person types: an id, the first letters of one, or "latest"."""

from uuid import UUID

from bfc_client.client import Client
from bfc_client.command_line.output import CommandRefused, ExitCode
from bfc_client.experiment import Experiment

LATEST = "latest"


def experiment_named(client: Client, name: str) -> Experiment:
    """The one experiment that the name fits.

    Raises:
        CommandRefused: it fits none, or several.
    """
    if name == LATEST:
        newest = next(client.experiments.list(), None)
        if newest is None:
            raise CommandRefused("there are no experiments yet", ExitCode.NOT_FOUND)
        return newest
    if _is_uuid(name):
        return client.experiments.get(name)
    if not name:
        raise CommandRefused("the experiment's name is empty; give an id, or 'latest'", ExitCode.USAGE)
    fitting = [one for one in client.experiments.list() if one.id.startswith(name.lower())]
    if not fitting:
        raise CommandRefused(
            f"no experiment's id begins with {name!r}; `bfc ls` lists them", ExitCode.NOT_FOUND
        )
    if len(fitting) > 1:
        ids = ", ".join(one.id for one in fitting[:5])
        raise CommandRefused(f"several ids begin with {name!r}: {ids}; give more letters", ExitCode.USAGE)
    return fitting[0]


def _is_uuid(name: str) -> bool:
    try:
        UUID(name)
    except ValueError:
        return False
    return True
