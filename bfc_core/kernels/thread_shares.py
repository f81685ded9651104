"""Work in shares, one thread each.

A block of a gram fits a core's cache. Torch's own threads would divide every operation on it and hand it from cache to
cache; here a thread keeps whole blocks for itself.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TypeVar

import torch

Answer = TypeVar("Answer")

Share = Callable[[int, int, Callable[[], None]], Answer]
"""From the share's number, how many there are, and what it calls often, which may raise to stop it."""


class _StoppedError(Exception):
    """Another share has failed; nobody will read this one's answer."""


def in_shares(share: Share[Answer], alive: Callable[[], None]) -> list[Answer]:
    """Every share's answer, on as many threads as torch has here.

    ``alive`` is called by the calling thread alone. What it raises stops the other shares too.
    """
    count = torch.get_num_threads()
    if count == 1:
        return [share(0, 1, alive)]
    stopped = Event()

    def still_wanted() -> None:
        if stopped.is_set():
            raise _StoppedError

    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count - 1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            others = [pool.submit(share, number, count, still_wanted) for number in range(1, count)]
            try:
                answers = [share(0, count, alive)]
            except BaseException:
                stopped.set()
                raise
            return answers + [other.result() for other in others]
    finally:
        torch.set_num_threads(count)
