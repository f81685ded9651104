"""What a grid costs before anything of it runs: seconds of a dry run and of acceptance over HTTP, and the API's memory.

The API runs without a worker, so that nothing but planning and storing takes part.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.stack import api_alone
from benchmarks.timing import Ratio, Result

CLAIM = (
    "Planning and accepting grow no faster than the grid: a cell of 100 000 costs at most half as much again as one of "
    "10 000, and the API's memory stays below 1 GiB."
)

CELLS = (10_000, 100_000)
LEARNERS = [
    {"kind": "algorithm_1"},
    {"kind": "joint"},
    {"kind": "kernel_ridge", "kernel": {"kind": "rbf"}},
    {"kind": "oracle"},
    {"kind": "linear"},
]
SIZES, DIMS = [64, 128, 256, 512, 1024], [6, 8, 10, 12]
GIB = 2**30


def measure(repetitions: int) -> Result:
    """Both grids on an API of their own, as often as asked but no more than three times."""
    seconds: dict[str, list[float]] = {}
    peaks: list[float] = []
    for _ in range(min(repetitions, 3)):
        for cells in CELLS:
            with tempfile.TemporaryDirectory() as folder, api_alone(Path(folder)) as (process, url):
                with httpx.Client(base_url=url, timeout=500) as client:
                    _posted(client, _grid(len(SIZES) * len(DIMS) * len(LEARNERS)), dry_run=True)
                    for what, parameters in (("dry run", {"dry_run": True}), ("acceptance", {})):
                        began = time.monotonic()
                        _posted(client, _grid(cells), **parameters)
                        seconds.setdefault(f"{what}, {cells} cells", []).append(time.monotonic() - began)
                peaks.append(_peak(process.pid))
    growth = CELLS[1] / CELLS[0]
    return Result(
        seconds=seconds,
        ratios=[
            *(
                Ratio(
                    f"seconds a cell, {CELLS[1]} over {CELLS[0]}: {what}",
                    tuple(
                        many / few / growth
                        for many, few in zip(
                            seconds[f"{what}, {CELLS[1]} cells"],
                            seconds[f"{what}, {CELLS[0]} cells"],
                            strict=True,
                        )
                    ),
                    bound=1.5,
                    is_upper=True,
                )
                for what in ("dry run", "acceptance")
            ),
            Ratio("GiB, the API's peak at 100 000 cells", tuple(peaks[1::2]), bound=1.0, is_upper=True),
        ],
        facts={"database": "SQLite", "learners": len(LEARNERS)},
    )


def _posted(client: httpx.Client, spec: dict[str, Any], **parameters: bool) -> None:
    answer = client.post("/v1/experiments", json=spec, params=parameters)
    if answer.is_error:
        raise RuntimeError(answer.text)


def _grid(cells: int) -> dict[str, Any]:
    return {
        "name": "many cells",
        "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
        "learners": LEARNERS,
        "n": SIZES,
        "dim": DIMS,
        "seeds": cells // (len(LEARNERS) * len(SIZES) * len(DIMS)),
        "budget": {"test_samples": 64},
    }


def _peak(pid: int) -> float:
    (line,) = (
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) * 1024 / GIB
