"""The flagship's grid through the whole service, packed, unpacked in two ways, and in a script.

Unpacked is a process a run. Through the service (``BFC_PACK_MEMBERS=1``, ``BFC_CHILD_START=spawn``) every run is
claimed, started, recorded and reported by itself; in a script it is just started. Both have the runs of one seed, since
a fifth of the grid says as well what a run takes. Without packing the service may also fork its processes from one that
has imported everything: what that arm takes over packed is what packing alone does.

The shapes are the flagship's (two levels on Gaussian inputs, the recipe's width and batch); fewer steps a stage, as the
facts say, so that the unpacked arms end in minutes.
"""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.stack import EMBEDDED, ROOT, clean, running
from benchmarks.timing import Result, ratio
from bfc_core.specs import ExperimentSpec, RunSpec

CLAIM = (
    "The flagship's grid takes at least five times as long as packed where every run has a process of its own: through "
    "the service, in a script, and through the service where processes are forked from a warm one."
)

LEARNERS = [
    {"kind": "algorithm_1"},
    {"kind": "layerwise"},
    {"kind": "joint"},
    {"kind": "kernel_ridge", "kernel": {"kind": "polynomial", "degree": 4}},
    {"kind": "kernel_ridge", "kernel": {"kind": "rbf"}},
]
SIZES, DIMS, SEEDS, STEPS = [128, 192, 256, 384, 512, 768], [10, 15, 20], 5, 50

SLOTS = 2

ALONE = {"BFC_PACK_MEMBERS": "1"}

ONE_RUN = """
import sys
from bfc_core.run import execute_pack
from bfc_core.specs import RunSpec
execute_pack([RunSpec.model_validate_json(sys.stdin.read())])
"""


def measure(repetitions: int) -> Result:
    """Each arm on a stack of its own, of two slots; each repetition has seeds of its own; a process a run, once."""
    seconds: dict[str, list[float]] = {"packed": [], "every run alone, processes forked": []}
    facts: dict[str, float | int | str] = {
        "n": str(SIZES), "dim": str(DIMS), "seeds": SEEDS, "steps a stage": STEPS, "stack": EMBEDDED, "slots": SLOTS,
    }  # fmt: skip
    for arm, settings in zip(seconds, ({}, ALONE), strict=True):
        with running(EMBEDDED, **settings) as stack:
            stack.seconds_of(_grid(10_000, 1) | {"n": 128, "dim": 10})
            for number in range(min(repetitions, 3)):
                grid = _grid(100 * number, SEEDS)
                plan = stack.post(grid, dry_run=True)
                facts |= {"runs": plan["cells"], f"packs, {arm}": plan["packs"]}
                seconds[arm].append(stack.seconds_of(grid))
    with running(EMBEDDED, **ALONE, BFC_CHILD_START="spawn") as stack:
        seconds["a process a run, one seed"] = [stack.seconds_of(_grid(0, 1))]
    scripted = ExperimentSpec.model_validate(_grid(0, 1)).runs()
    seconds["a script's process a run, one seed"] = [_script(scripted)]
    facts["runs of one seed"] = len(scripted)
    packed, alone, process, script = seconds.values()
    share = int(facts["runs"]) / len(scripted)
    return Result(
        seconds=seconds,
        ratios=[
            ratio("seconds a run, a process a run over packed", process, packed[:1], 5.0, scale=share),
            ratio(
                "seconds a run, a script's process a run over packed", script, packed[:1], 5.0, scale=share
            ),
            ratio("seconds of the grid, every run alone, processes forked, over packed", alone, packed, 5.0),
        ],
        facts=facts,
    )


def _script(runs: list[RunSpec]) -> float:
    """Wall seconds of a process a run, ``SLOTS`` at a time, one thread each."""
    environment = clean() | {"OMP_NUM_THREADS": "1"}

    def run_alone(run: RunSpec) -> None:
        subprocess.run(
            [sys.executable, "-c", ONE_RUN],
            cwd=ROOT, env=environment, input=run.canonical_json(), text=True, check=True,
        )  # fmt: skip

    began = time.monotonic()
    with ThreadPoolExecutor(SLOTS) as pool:
        list(pool.map(run_alone, runs))
    return time.monotonic() - began


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
