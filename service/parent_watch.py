"""A process of the embedded stack that never outlives its supervisor, however that one died."""

import os
import signal
import threading


def watch_parent(descriptor: int | None) -> None:
    """End this process as SIGTERM would once the other end of the pipe ``descriptor`` is closed; None: no watch."""
    if descriptor is None:
        return
    os.set_inheritable(descriptor, False)
    threading.Thread(target=_wait, args=(descriptor,), name="parent-watch", daemon=True).start()


def _wait(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def await_start(descriptor: int | None) -> None:
    """Return once the other end of the pipe ``descriptor`` is closed: the database is ready; None: at once."""
    if descriptor is None:
        return
    os.set_inheritable(descriptor, False)
    while os.read(descriptor, 1):
        pass
