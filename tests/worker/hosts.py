"""Two machines on one: a network namespace and a host name each, on a cable that can be pulled."""

import os
import random
import shutil
import socket
import subprocess
import threading
from contextlib import suppress
from uuid import uuid4


class CannotIsolateError(Exception):
    """This machine does not let us make network namespaces."""


class Forwarder:
    """Passes connections to an address on to a port of the loopback address, where the test's servers listen."""

    def __init__(self, address: str, port: int) -> None:
        self._port = port
        self._listener = socket.create_server((address, 0))
        self._sockets = [self._listener]
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for end in self._sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                there = socket.create_connection(("127.0.0.1", self._port))
                self._sockets += [here, there]
                for pair in ((here, there), (there, here)):
                    threading.Thread(target=_copy, args=pair, daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(1 << 16):
            sink.sendall(content)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class Host:
    """A network of its own, whose one cable ends here at ``address``."""

    def __init__(self) -> None:
        """Make it.

        Raises:
            CannotIsolateError: not permitted, or the tools are missing.
        """
        if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
            raise CannotIsolateError("network namespaces need root, ip and unshare")
        self.name = f"bfc-{uuid4().hex[:8]}"
        self._here, there = f"{self.name}h", f"{self.name}t"
        network = f"10.{random.randint(200, 250)}.{random.randint(0, 255)}"
        self.address = f"{network}.1"
        self._forwarders: list[Forwarder] = []
        try:
            _ip("netns", "add", self.name)
            _ip("link", "add", self._here, "type", "veth", "peer", "name", there, "netns", self.name)
            _ip("address", "add", f"{self.address}/30", "dev", self._here)
            _ip("link", "set", self._here, "up")
            _ip("-n", self.name, "address", "add", f"{network}.2/30", "dev", there)
            _ip("-n", self.name, "link", "set", there, "up")
            _ip("-n", self.name, "link", "set", "lo", "up")
        except subprocess.CalledProcessError as error:
            self.close()
            raise CannotIsolateError(error.stderr.strip()) from error

    @property
    def inside(self) -> tuple[str, ...]:
        """What a command begins with that shall run there; it keeps its process id."""
        script = f'hostname {self.name}; exec "$0" "$@"'
        return ("ip", "netns", "exec", self.name, "unshare", "--uts", "sh", "-c", script)

    def reach(self, port: int) -> str:
        """Where the host reaches a port of the test's loopback address."""
        forwarder = Forwarder(self.address, port)
        self._forwarders.append(forwarder)
        return f"{self.address}:{forwarder.port}"

    def pull_cable(self) -> None:
        _ip("link", "set", self._here, "down")

    def plug_in(self) -> None:
        _ip("link", "set", self._here, "up")

    def close(self) -> None:
        for forwarder in self._forwarders:
            forwarder.close()
        with suppress(subprocess.CalledProcessError):
            _ip("link", "delete", self._here)
        with suppress(subprocess.CalledProcessError):
            _ip("netns", "delete", self.name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=30)
