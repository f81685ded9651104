"""A search for n* on a real problem beside the full grid: the same answer for a part of the work.

The learner is a polynomial kernel of the target's degree, which needs some samples for each of its features. The
search goes first; the grid then computes every size with as many seeds, and what the search has computed is linked.
"""

import time
from typing import Any

from benchmarks.stack import EMBEDDED, Stack, running
from benchmarks.timing import Ratio, Result

CLAIM = "A search finds n* within the full grid's 95 % interval, for at most a third of its runs."

PROBLEM: dict[str, Any] = {
    "name": "n* of a kernel",
    "target": {"kind": "staircase", "label_noise": 0.2},
    "learners": [{"kind": "kernel_ridge", "kernel": {"kind": "polynomial", "degree": 3}}],
    "dim": [5, 8, 12],
    "budget": {"test_samples": 500},
}
EPS, DELTA, SMALLEST, LARGEST, SEEDS, POINTS = 0.1, 0.2, 16, 2048, 8, 2


def measure(repetitions: int) -> Result:  # noqa: ARG001 - every cell is a fixed seed's: a repetition would be the same
    """One search and one grid on the embedded stack."""
    with running(EMBEDDED) as stack:
        search = _searched(stack)
        sizes = [round(SMALLEST * 2 ** (k / POINTS)) for k in range(POINTS * 7)] + [LARGEST]
        grid = stack.post(PROBLEM | {"n": sizes, "seeds": SEEDS})
        stack.wait_for(grid["id"])
        full = stack.get(f"/v1/experiments/{grid['id']}/complexity?eps={EPS}&delta={DELTA}")
        runs = stack.get(f"/v1/experiments/{grid['id']}")["runs"]["total"]
        seconds = _seconds(stack, grid["id"])
    found = {cell["dim"]: cell["first"] for cell in search["cells"]}
    asked = {cell["dim"]: cell["first"] for cell in full["cells"]}
    within = [
        (asked[dim]["low"] or 0) <= found[dim]["value"] <= (asked[dim]["high"] or float("inf"))
        for dim in asked
    ]
    return Result(
        seconds={"search, computing": [search["seconds"]], "full grid, computing": [seconds]},
        ratios=[
            Ratio(
                "share of dims where n* lies in the grid's interval", (sum(within) / len(within),), bound=1.0
            ),
            Ratio("runs, search over grid", (search["runs"] / runs,), bound=1 / 3, is_upper=True),
            Ratio(
                "seconds of computing, search over grid",
                (search["seconds"] / seconds,),
                bound=1 / 3,
                is_upper=True,
            ),
        ],
        facts={
            "runs of the search": search["runs"],
            "runs of the grid": runs,
            "rounds": search["rounds"],
            "sizes": len(sizes),
            "seeds": SEEDS,
        }
        | {f"n* at dim {dim}, search": found[dim]["text"] for dim in found}
        | {
            f"n* at dim {dim}, grid": f"{cell['text']} ({cell['low']} to {cell['high']})"
            for dim, cell in asked.items()
        },
    )


def _searched(stack: Stack) -> dict[str, Any]:
    body = PROBLEM | {
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


def _seconds(stack: Stack, experiment_id: str) -> float:
    return sum(run["seconds"] for run in stack.runs(experiment_id))
