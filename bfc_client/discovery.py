"""Find the stack that ``bfc up`` keeps running in a folder, by the state file it leaves there."""

import json
from pathlib import Path

from bfc_client.errors import ServerNotFound
from bfc_client.settings import ClientSettings

STATE_FILE = "embedded.json"


def url_of(settings: ClientSettings) -> str:
    """BFC_URL, or else the address of the stack in the data folder.

    Raises:
        ServerNotFound: neither is there; the message says what to do.
    """
    url = settings.url or url_of_stack(settings.data_dir)
    if url is None:
        raise ServerNotFound(
            f"no server: BFC_URL is not set and no stack runs in {settings.data_dir}. "
            "Start one with `bfc up`, or set BFC_URL to the address of a server"
        )
    return url


def url_of_stack(data_dir: Path) -> str | None:
    """The address in the folder's state file; None without a file, or with one that is torn."""
    try:
        state = json.loads((data_dir / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    url = state.get("url") if isinstance(state, dict) else None
    return url if isinstance(url, str) and url.startswith("http") else None
