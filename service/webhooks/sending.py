"""One call of a webhook: to a checked address, without redirects, bounded in time and size."""

import http.client
import socket
import ssl
import threading
import time
from contextlib import suppress

from service.webhooks.address import Destination, resolved

MOST_ANSWER_BYTES = 4096


class CallFailedError(Exception):
    """The receiver did not answer that it has taken the message; says nothing of what it did answer."""


def post(destination: Destination, body: bytes, headers: dict[str, str], seconds: float) -> None:
    """Send, and return where the answer is 2xx.

    Args:
        seconds: for everything but the resolution of the name, however slowly the other side goes on.

    Raises:
        AddressRefusedError: the name leads to an address that is not called.
        CallFailedError: anything else that is not a 2xx.
    """
    try:
        addresses = resolved(destination)
    except (OSError, ValueError) as error:
        raise CallFailedError("the name does not resolve") from error
    deadline = time.monotonic() + seconds
    try:
        status = _exchange(destination, _connected(addresses, destination, deadline), body, headers, deadline)
    except ssl.SSLError as error:
        raise CallFailedError("no TLS connection with a certificate that holds") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CallFailedError("no answer, or none in HTTP, in time") from error
    if not 200 <= status < 300:  # noqa: PLR2004 - HTTP's own
        raise CallFailedError(f"the answer is {status}" + (", a redirect" if 300 <= status < 400 else ""))  # noqa: PLR2004


def _connected(addresses: list[str], destination: Destination, deadline: float) -> socket.socket:
    """Connect to one of the very addresses that were checked."""
    failure: OSError | None = None
    for address in addresses:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        try:
            return socket.create_connection((address, destination.port), timeout=left)
        except OSError as error:
            failure = error
    raise failure or TimeoutError


def _exchange(
    destination: Destination, raw: socket.socket, body: bytes, headers: dict[str, str], deadline: float
) -> int:
    connection: http.client.HTTPConnection
    sock = raw
    if destination.scheme == "https":
        # The name is what the certificate must hold, whatever the address is.
        try:
            sock = ssl.create_default_context().wrap_socket(
                raw, server_hostname=destination.host, do_handshake_on_connect=False
            )
        except BaseException:
            raw.close()
            raise
        connection = http.client.HTTPSConnection(destination.host, destination.port)
    else:
        connection = http.client.HTTPConnection(destination.host, destination.port)

    def cut() -> None:
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    # A timeout of the socket starts anew with every byte: this one does not.
    watchdog = threading.Timer(max(0.0, deadline - time.monotonic()), cut)
    watchdog.daemon = True
    watchdog.start()
    try:
        if isinstance(sock, ssl.SSLSocket):
            sock.do_handshake()
        connection.sock = sock
        connection.request("POST", destination.target, body, headers)
        response = connection.getresponse()
        response.read(MOST_ANSWER_BYTES)
        return response.status
    finally:
        watchdog.cancel()
        sock.close()
