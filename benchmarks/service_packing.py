"""The flagship's grid through the whole service, packed and with every run in a pack of its own.

The shapes are the flagship's (two levels on Gaussian inputs, the recipe's width and batch); the budget is smaller, so
that the unpacked arm ends in minutes: fewer steps a stage, fewer sizes, dims and seeds, as the facts say.
"""

from typing import Any

from benchmarks.stack import EMBEDDED, running
from benchmarks.timing import Ratio, Result, ratio

CLAIM = "The flagship's grid takes at least five times as long through the service where nothing is packed."

LEARNERS = [
    {"kind": "algorithm_1"},
    {"kind": "layerwise"},
    {"kind": "joint"},
    {"kind": "kernel_ridge", "kernel": {"kind": "polynomial", "degree": 4}},
    {"kind": "kernel_ridge", "kernel": {"kind": "rbf"}},
]
SIZES, DIMS, SEEDS, STEPS = [128, 256, 512], [10, 20], 5, 50


def measure(repetitions: int) -> Result:
    """Each arm on a stack of its own, of two slots; each repetition has seeds of its own."""
    seconds: dict[str, list[float]] = {"packed": [], "every run alone": []}
    facts: dict[str, float | int | str] = {
        "n": str(SIZES), "dim": str(DIMS), "seeds": SEEDS, "steps a stage": STEPS, "stack": EMBEDDED, "slots": 2,
    }  # fmt: skip
    for arm, settings in (("packed", {}), ("every run alone", {"BFC_PACK_MEMBERS": "1"})):
        with running(EMBEDDED, **settings) as stack:
            stack.seconds_of(_grid(10_000, 1) | {"n": 128, "dim": 10})
            for number in range(min(repetitions, 3)):
                grid = _grid(100 * number, SEEDS)
                plan = stack.post(grid, dry_run=True)
                facts |= {"runs": plan["cells"], f"packs, {arm}": plan["packs"]}
                seconds[arm].append(stack.seconds_of(grid))
    found: Ratio = ratio(
        "seconds of the grid, every run alone over packed",
        seconds["every run alone"],
        seconds["packed"],
        bound=5.0,
    )
    return Result(seconds=seconds, ratios=[found], facts=facts)


def _grid(first_seed: int, seeds: int) -> dict[str, Any]:
    return {
        "name": "flagship",
        "target": {"kind": "hierarchical_quadratic"},
        "learners": LEARNERS,
        "n": SIZES,
        "dim": DIMS,
        "seeds": list(range(first_seed, first_seed + seeds)),
        "budget": {"test_samples": 1000, "steps_per_stage": STEPS},
    }
