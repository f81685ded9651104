"""``python -m service``: the API behind uvicorn, as a server deployment starts it.

It refuses to listen outside loopback without API keys, which ``uvicorn service.app:create_app`` could only do
request by request.
"""

import argparse
import sys
from collections.abc import Sequence

import uvicorn

from service.app import create_app
from service.auth import check_bind
from service.config import read_settings
from service.telemetry import configure_logging

SHUTDOWN_SECONDS = 5
REFUSED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args(arguments)
    settings = read_settings()
    try:
        check_bind(settings, given.host)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    configure_logging(settings)
    uvicorn.run(
        create_app(settings),
        host=given.host,
        port=given.port,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
