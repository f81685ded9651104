"""Slots of workers on one machine and data folder: who is certainly dead, and whose packs may be taken at once.

A worker holds the file lock of its slot for as long as it lives; the system drops the lock with the process. So
whoever gets a slot's lock knows that the slot's former owner is dead, without waiting for a lease to run out.
"""

import hashlib
import socket
import uuid
from pathlib import Path

from filelock import FileLock, Timeout

_MOST_SLOTS = 256


class WorkerSlot:
    """The slot of this process."""

    def __init__(self, data_dir: Path) -> None:
        """Take the first free slot.

        Raises:
            RuntimeError: no slot is free.
        """
        host = socket.gethostname()
        digest = hashlib.sha256(str(data_dir.absolute()).encode()).hexdigest()[:8]
        self._prefix = f"{host}/{digest}"
        self._folder = data_dir.absolute() / "locks"
        self._folder.mkdir(parents=True, exist_ok=True)
        for number in range(_MOST_SLOTS):
            lock = self._lock(number)
            if lock is not None:
                self._held = lock
                self.number = number
                break
        else:
            raise RuntimeError(f"{_MOST_SLOTS} workers share {data_dir} already")
        self.worker_id = f"{self._slot_prefix(self.number)}{uuid.uuid4().hex[:8]}"

    @property
    def predecessors(self) -> str:
        """What the ids of this slot's former workers begin with."""
        return self._slot_prefix(self.number)

    def take_dead(self) -> list[tuple[str, FileLock]]:
        """Slots of this machine whose worker is dead: prefix of its ids, and its lock, to be released."""
        dead: list[tuple[str, FileLock]] = []
        for file in sorted(self._folder.glob(f"worker-{socket.gethostname()}-*.lock")):
            number = int(file.stem.rpartition("-")[2])
            if number != self.number and (lock := self._lock(number)) is not None:
                dead.append((self._slot_prefix(number), lock))
        return dead

    def release(self) -> None:
        """Give the slot back; the process is about to end."""
        self._held.release()

    def _slot_prefix(self, number: int) -> str:
        return f"{self._prefix}/{number}/"

    def _lock(self, number: int) -> FileLock | None:
        lock = FileLock(self._folder / f"worker-{socket.gethostname()}-{number}.lock", thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return None
        return lock
