"""The most memory that a child holds for its pack, beyond what it held before."""

import contextlib
import resource
import sys
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_KIBIBYTE = 1024


class PeakMemory:
    """Begins at its making. On a GPU the tensors' memory there, else that of the process, resident in RAM."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            _forget_peak()
            self._before = _resident_bytes()

    def bytes(self) -> int:
        """The peak since then."""
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        return max(0, _peak_bytes() - self._before)


def _forget_peak() -> None:
    """Where Linux allows it, so that what was held before cannot hide a smaller peak of the pack."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")


def _resident_bytes() -> int:
    return _from_status("VmRSS") or _peak_by_usage()


def _peak_bytes() -> int:
    """Linux's VmHWM, which a fork starts anew; the usage's peak begins at what the parent held."""
    return _from_status("VmHWM") or _peak_by_usage()


def _from_status(name: str) -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:  # not Linux
        return None
    values = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return next((int(value) * _KIBIBYTE for value in values), None)


def _peak_by_usage() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * _KIBIBYTE
