"""Where the client looks for a server, read once from the environment.

``BFC_URL``       address of the API, for instance http://127.0.0.1:8321
``BFC_TOKEN``     sent as bearer token
``BFC_DATA_DIR``  folder of a stack started by ``bfc up``; by default ``var`` in the working directory
``BFC_TIMEOUT``   seconds that one answer may take (default 30)
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bfc_client.errors import InvalidSettings

DEFAULT_PORT = 8321
DEFAULT_DATA_DIR = Path("var")
DEFAULT_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class ClientSettings:
    """Everything the client takes from its surroundings."""

    url: str | None = None
    token: str | None = None
    data_dir: Path = DEFAULT_DATA_DIR
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS


def read_settings(environment: Mapping[str, str] | None = None) -> ClientSettings:
    """The settings of this process.

    Raises:
        InvalidSettings: BFC_TIMEOUT is not a positive number.
    """
    # The one place of the client that reads the environment.
    values = os.environ if environment is None else environment  # noqa: TID251
    timeout = values.get("BFC_TIMEOUT") or str(DEFAULT_TIMEOUT_SECONDS)
    try:
        timeout_seconds = float(timeout)
    except ValueError:
        timeout_seconds = 0.0
    if not 0 < timeout_seconds < float("inf"):
        raise InvalidSettings(f"BFC_TIMEOUT must be a positive number of seconds, it is {timeout!r}")
    return ClientSettings(
        url=values.get("BFC_URL") or None,
        token=values.get("BFC_TOKEN") or None,
        data_dir=Path(values.get("BFC_DATA_DIR") or DEFAULT_DATA_DIR),
        timeout_seconds=timeout_seconds,
    )


_OF_ANOTHER_DEPLOYMENT = frozenset(
    f"BFC_{name}"
    for name in (
        "URL", "TOKEN", "DATABASE_URL", "BROKER_URL", "BROKER_PREFIX", "QUEUE", "DATA_DIR", "PARENT_PIPE"
    )
)  # fmt: skip


def environment_of_a_stack() -> dict[str, str]:
    """What a stack started by the command line inherits: limits and grace times, but no places.

    An embedded stack brings its own database and broker; a ``BFC_DATABASE_URL`` meant for a server
    would send the demo's rows there.
    """
    return {name: value for name, value in os.environ.items() if name not in _OF_ANOTHER_DEPLOYMENT}  # noqa: TID251
