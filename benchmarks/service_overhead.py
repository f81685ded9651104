"""What a deployment costs beside the computing: packs of a second through it, and in a plain loop.

Two numbers, since each is blind to something. *Time without computing* is the share of a slot's wall time, from the
first claim to the last report, that is not the packs' own seconds: claims, processes, files, reports, the way to the
next claim. The packs' seconds are measured in the process that trains, so whatever slows the training itself (a fork's
copied pages, a core shared with the database, the broker, the API and the worker) is not in it. *Over a plain loop* is
the wall time of the same packs against the same number of processes that execute one pack after another and know
no service at all: everything is in it, and so is the machine's mood, which is why both are measured in turn.
"""

import json
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from benchmarks.stack import ROOT, Stack, clean, deployments, running
from benchmarks.timing import Ratio, Result

CLAIM = (
    "Packs of one second keep a slot of a worker computing for more than 98 % of the time, and take less than 2 % "
    "longer than in a plain loop of one process."
)

PACKS, MEMBERS = 20, 16
PACK_SECONDS = 1.0
PROBE_STEPS = 400

LOOP = """
import json, sys
from bfc_core.packing import packs_of
from bfc_core.run import execute_pack
from bfc_core.specs import ExperimentSpec
import torch
torch.set_num_threads(1)
number, processes, members = map(int, sys.argv[1:])
for line in sys.stdin:
    packs = packs_of(ExperimentSpec.model_validate(json.loads(line)).runs(), members)
    for pack in packs[number::processes]:
        execute_pack(pack)
    print("done", flush=True)
"""
"""A process of the plain loop: a spec a line, of whose packs it executes every ``processes``-th."""


def measure(repetitions: int) -> Result:
    """One slot, where no pack waits for another's core or end; then two, where they do."""
    ratios, facts = [], {"packs": PACKS}
    for name in deployments():
        for slots in (1, 2):
            with _running(name, slots) as stack:
                _busy(stack, _spec(0, 1, PROBE_STEPS), 1)
                steps = _steps_of_a_second(stack)
            found = [
                _in_turn(name, slots, 1000 * (number + 1), steps) for number in range(min(repetitions, 3))
            ]
            label = f"{name}, {slots} slot{'s' if slots > 1 else ''}"
            bound = 2.0 if slots == 1 else None
            for title, values in (
                ("of a slot's time without computing", [100 * (1 - c / (slots * w)) for c, w, _ in found]),
                ("longer than a plain loop", [100 * (wall / loop - 1) for _, wall, loop in found]),
            ):
                ratios.append(Ratio(f"% {title}: {label}", tuple(values), bound, is_upper=True))
            facts[f"seconds of a pack: {label}"] = round(
                sum(seconds / PACKS for seconds, *_ in found) / len(found), 2
            )
    return Result(seconds={}, ratios=ratios, facts=facts)


def _running(name: str, slots: int) -> AbstractContextManager[Stack]:
    """A deployment whose packs have ``MEMBERS`` runs, however short these are."""
    return running(name, concurrency=slots, BFC_PACK_MEMBERS=str(MEMBERS))


def _in_turn(name: str, slots: int, first_seed: int, steps: int) -> tuple[float, float, float]:
    """Seconds computed, wall seconds from the first claim to the last report, and wall seconds of the plain loop."""
    spec = _spec(first_seed, PACKS, steps)
    loop = _plain_loop(spec, slots)
    with _running(name, slots) as stack:
        _busy(stack, _spec(0, 2 * slots, PROBE_STEPS), 2 * slots)
        computed, wall = _busy(stack, spec, PACKS)
    return computed, wall, loop


def _plain_loop(spec: dict[str, Any], processes: int) -> float:
    """Wall seconds of a spec's packs in so many warm processes."""
    environment = clean() | {"OMP_NUM_THREADS": "1"}
    loops = [
        subprocess.Popen(
            [sys.executable, "-c", LOOP, str(number), str(processes), str(MEMBERS)],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(processes)
    ]  # fmt: skip
    for each in (_spec(0, 2 * processes, PROBE_STEPS), spec):
        began = time.monotonic()
        for loop in loops:
            assert loop.stdin is not None
            loop.stdin.write(f"{json.dumps(each)}\n")
            loop.stdin.flush()
        for loop in loops:
            assert loop.stdout is not None
            assert loop.stdout.readline() == "done\n"
        seconds = time.monotonic() - began
    for loop in loops:
        loop.communicate()
    return seconds


def _spec(first_seed: int, packs: int, steps: int) -> dict[str, Any]:
    return {
        "name": "a second each",
        "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
        "learners": [{"kind": "joint", "width": 8, "batch_size": 32, "steps_per_stage": steps}],
        "n": 64,
        "dim": 6,
        "seeds": list(range(first_seed, first_seed + MEMBERS * packs)),
        "budget": {"test_samples": 64},
    }


def _busy(stack: Stack, spec: dict[str, Any], packs: int) -> tuple[float, float]:
    """Seconds computed, and seconds from the first claim to the last report."""
    assert stack.post(spec, dry_run=True)["packs"] == packs
    found = stack.wait_for(stack.post(spec)["id"])
    began, ended = (datetime.fromisoformat(found[name]) for name in ("started_at", "finished_at"))
    computed = sum(run["seconds"] for run in stack.runs(found["id"]))
    return computed, (ended - began).total_seconds()


def _steps_of_a_second(stack: Stack) -> int:
    computed, _ = _busy(stack, _spec(500, 1, 4 * PROBE_STEPS), 1)
    return round(PACK_SECONDS * 4 * PROBE_STEPS / computed)
