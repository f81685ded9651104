"""Signs of life from deep inside a gram, where a cancellation must be heard too.

A block of a gram is asked for by whoever needs one, through kernels that know nothing of runs; a gram of a kernel on
images takes minutes. So who watches says so around the work, and the loops over blocks and tiles beat.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_alive: ContextVar[Callable[[], None] | None] = ContextVar("alive", default=None)


@contextmanager
def watched(alive: Callable[[], None]) -> Iterator[None]:
    """``alive`` is called often by what this thread does inside, and may raise to stop it."""
    token = _alive.set(alive)
    try:
        yield
    finally:
        _alive.reset(token)


def beat() -> None:
    """Tell whoever watches that a small part of the work is done."""
    alive = _alive.get()
    if alive is not None:
        alive()
