"""Member-steps a second by the size of a pack, beside the size that the planner chooses."""

from collections.abc import Callable

from benchmarks.packed_training import FLAGSHIP, SMALL, WIDE, Shape, pack_of, runs_of, total_steps
from benchmarks.timing import Result, in_turn, ratio
from bfc_core.network_cost import fastest_members, step_bytes
from bfc_core.specs import Recipe

CLAIM = (
    "The pack that the planner makes trains at least 0.95 times as fast as the best of the measured sizes."
)

CLASSES: tuple[tuple[str, Shape, tuple[int, ...], int], ...] = (
    ("flagship", FLAGSHIP, (1, 4, 8, 16, 32), 64),
    ("middle", {**SMALL, "widths": [10, 10], "alphas": [1, 0.1]}, (1, 2, 4, 8, 16), 32),
    ("small", SMALL, (1, 2, 3, 4, 6, 8), 32),
    ("wide", WIDE, (1, 2, 3), 16),
)
"""Name, shape, sizes and steps per stage: from arrays that start faster than they are told to, to large products."""


def measure(repetitions: int) -> Result:
    """All sizes of all shapes in turn; packs larger than the planner's are stepped together for once."""
    arms: dict[str, Callable[[], object]] = {}
    member_steps: dict[str, int] = {}
    planned: dict[str, int] = {}
    facts: dict[str, float | int | str] = {}
    for name, shape, sizes, steps in CLASSES:
        run = runs_of(shape, 1, steps)[0]
        assert isinstance(run.learner, Recipe)
        planned[name] = fastest_members(run, run.learner)
        facts[f"KiB of a member's step, {name}"] = step_bytes(run, run.learner) // 1024
        facts[f"planned members, {name}"] = planned[name]
        for size in sorted({*sizes, planned[name]}):
            runs = runs_of(shape, size, steps)
            arm = f"{name}: {size}"
            arms[arm], member_steps[arm] = pack_of(runs, together=size), size * total_steps(run)
    seconds = in_turn(arms, repetitions)
    rates = {arm: [member_steps[arm] / s for s in of] for arm, of in seconds.items()}
    found = []
    for name, members in planned.items():
        of_class = {arm: rate for arm, rate in rates.items() if arm.startswith(f"{name}: ")}
        best = max(of_class, key=lambda arm: sorted(of_class[arm])[repetitions // 2])
        chosen = of_class[f"{name}: {members}"]
        found.append(ratio(f"{name}, {members} members against {best}", chosen, of_class[best], 0.95))
        found.extend(
            ratio(f"{arm} against 1", rate, of_class[f"{name}: 1"]) for arm, rate in of_class.items()
        )
    return Result(seconds, found, facts)
