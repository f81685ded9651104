"""Running arms in turn, and ratios with their spread."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Ratio:
    """How many times one quantity is another: the median over repetitions, and the extremes.

    ``bound`` is what the claim asks for: at least so much, or at most where ``is_upper``. None states no claim.
    """

    name: str
    values: tuple[float, ...]
    bound: float | None = None
    is_upper: bool = False

    @property
    def median(self) -> float:
        """The middle repetition."""
        return statistics.median(self.values)

    @property
    def holds(self) -> bool | None:
        """Whether the median keeps to the bound; None without one."""
        if self.bound is None:
            return None
        return self.median <= self.bound if self.is_upper else self.median >= self.bound


@dataclass(frozen=True)
class Result:
    """What one comparison found: seconds of every arm by repetition, ratios, and facts such as sizes."""

    seconds: dict[str, list[float]]
    ratios: list[Ratio]
    facts: dict[str, float | int | str] = field(default_factory=dict)


def in_turn(arms: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, list[float]]:
    """Wall seconds of every arm. The arms alternate, so that a busy moment of the machine meets all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(repetitions):
        for name, arm in arms.items():
            started = time.perf_counter()
            arm()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(
    name: str,
    slow: list[float],
    fast: list[float],
    bound: float | None = None,
    *,
    is_upper: bool = False,
    scale: float = 1.0,
) -> Ratio:
    """Repetition by repetition ``scale`` · slow / fast."""
    values = tuple(scale * a / b for a, b in zip(slow, fast, strict=True))
    return Ratio(name, values, bound, is_upper)


PEAK = """
def peak():
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
"""


def extra_memory_bytes(code: str, *arguments: object) -> int:
    """What ``code`` prints as its last line, run in a process of its own: a process never forgets its peak."""
    answer = subprocess.run(
        [sys.executable, "-c", PEAK + code, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return int(answer.stdout.split()[-1])
