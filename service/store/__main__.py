"""``python -m service.store``: whether this machine can write and read the store of its settings."""

import sys

from service.config import read_settings
from service.store.base import StoreUnavailableError
from service.store.opening import open_store, probe


def main() -> int:
    """Try the store; the process's exit code."""
    try:
        store = open_store(read_settings())
        probe(store)
    except (StoreUnavailableError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{store.place} can be written and read\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
