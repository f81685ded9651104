"""Searches for n* on real problems beside the full grid: the same answers for a part of the work.

A polynomial kernel of the target's degree needs some samples for each of its features, and once it has more samples
than features it costs little more for many; what a network costs does not depend on n. The search goes first; the grid
then computes every size with as many seeds, and what the search has computed is linked.
"""

import time
from typing import Any

from benchmarks.stack import EMBEDDED, Stack, running
from benchmarks.timing import Ratio, Result

CLAIM = (
    "A search finds n* within the full grid's 95 % interval, for at most a third of its runs and of its seconds of "
    "computing."
)

PROBLEMS: dict[str, dict[str, Any]] = {
    "kernel": {
        "target": {"kind": "staircase", "label_noise": 0.2},
        "learners": [{"kind": "kernel_ridge", "kernel": {"kind": "polynomial", "degree": 3}}],
        "dim": [5, 8, 12],
    },
    "networks": {
        "target": {"kind": "hierarchical_quadratic"},
        "learners": [{"kind": kind, "steps_per_stage": 100} for kind in ("joint", "algorithm_1")],
        "dim": [6, 10, 14],
    },
}
EPS, DELTA, SMALLEST, LARGEST, SEEDS, POINTS = 0.1, 0.2, 16, 2048, 8, 2
SIZES = [*(round(SMALLEST * 2 ** (k / POINTS)) for k in range(POINTS * 7)), LARGEST]


def measure(repetitions: int) -> Result:
    """One search and one grid of each problem on a stack of its own; a repetition differs in its seconds alone."""
    seconds: dict[str, list[float]] = {}
    shares: dict[str, tuple[list[float], float, bool]] = {}
    facts: dict[str, float | int | str] = {"sizes": len(SIZES), "seeds": SEEDS}
    for name, problem in PROBLEMS.items():
        spec = {"name": name, "budget": {"test_samples": 500}} | problem
        for _ in range(min(repetitions, 5)):
            with running(EMBEDDED) as stack:
                searched, full, runs, computing = _both(stack, spec)
            found = {_key(cell): cell["first"] for cell in searched["cells"]}
            asked = {_key(cell): cell["first"] for cell in full["cells"]}
            within = [
                (asked[key]["low"] or 0) <= found[key]["value"] <= (asked[key]["high"] or float("inf"))
                for key in asked
            ]
            seconds.setdefault(f"{name}: search, computing", []).append(searched["seconds"])
            seconds.setdefault(f"{name}: full grid, computing", []).append(computing)
            for title, value, bound, is_upper in (
                ("share of n* in the grid's interval", sum(within) / len(within), 1.0, False),
                ("runs, search over grid", searched["runs"] / runs, 1 / 3, True),
                ("seconds of computing, search over grid", searched["seconds"] / computing, 1 / 3, True),
            ):
                shares.setdefault(f"{name}: {title}", ([], bound, is_upper))[0].append(value)
            facts |= {
                f"{name}: runs of the search": searched["runs"],
                f"{name}: runs of the grid": runs,
                f"{name}: rounds": searched["rounds"],
            }
            for key, first in asked.items():
                interval = f"{first['low']} to {first['high']}"
                facts[f"n*, {key}"] = f"{found[key]['text']}, grid {first['text']} ({interval})"
    ratios = [
        Ratio(title, tuple(values), bound, is_upper) for title, (values, bound, is_upper) in shares.items()
    ]
    return Result(seconds, ratios, facts)


def _both(stack: Stack, problem: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], int, float]:
    """What the search and the grid found, and the grid's runs and their seconds."""
    searched = _searched(stack, problem)
    grid = stack.wait_for(stack.post(problem | {"n": SIZES, "seeds": SEEDS})["id"])
    full = stack.get(f"/v1/experiments/{grid['id']}/complexity?eps={EPS}&delta={DELTA}")
    return searched, full, grid["runs"]["total"], sum(run["seconds"] for run in stack.runs(grid["id"]))


def _key(cell: dict[str, Any]) -> str:
    return f"{cell['learner']['kind']} at dim {cell['dim']}"


def _searched(stack: Stack, problem: dict[str, Any]) -> dict[str, Any]:
    body = problem | {
        "eps": EPS,
        "delta": DELTA,
        "n_min": SMALLEST,
        "n_max": LARGEST,
        "points_per_doubling": POINTS,
        "seeds": SEEDS,
    }
    search = stack.post(body, path="/v1/complexity")
    while (state := stack.get(f"/v1/complexity/{search['id']}"))["status"] == "running":
        time.sleep(0.5)
    if state["status"] != "succeeded":
        raise RuntimeError(str(state["message"]))
    return dict(state)
