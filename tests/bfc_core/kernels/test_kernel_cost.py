"""The plan of memory and time against what fits really take."""

import subprocess
import sys

import pytest

from bfc_core.kernel_cost import (
    EIGENDECOMPOSITION_LIMIT,
    feature_machine_memory_bytes,
    feature_machine_seconds,
    kernel_memory_bytes,
    kernel_ridge_memory_bytes,
    kernel_seconds,
)
from bfc_core.packing import estimate_run
from bfc_core.specs import RunSpec

# A process of its own, because a process never forgets its peak; the kernel's VmHWM and not `ru_maxrss`, because
# the latter starts at what the parent held when it forked.
PEAK_OF_ONE_FIT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from bfc_core.learners.kernel_ridge import fit_kernel_ridge
from bfc_core.learners.recursive_feature_machine import fit_recursive_feature_machine
from bfc_core.specs import KernelRidge, RecursiveFeatureMachine

def fit(n):
    x = torch.randn(n, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = x[:, 0] * x[:, 1]
    if sys.argv[2] == "machine":
        learner = RecursiveFeatureMachine(kind="recursive_feature_machine", rounds=1, bandwidths=(10,), ridges=(1,))
        fitted = fit_recursive_feature_machine(learner, x, y, torch.Generator(), lambda *_: None, None)
    else:
        body = {"kind": "kernel_ridge", "kernel": {"kind": "ntk"}}
        if sys.argv[2] == "ridge":
            body["ridges"] = [0.1]
        elif sys.argv[2] != "grid":
            body |= {"solver": sys.argv[2], "centres": 700}
        learner = KernelRidge.model_validate(body)
        fitted = fit_kernel_ridge(learner, x, y, lambda *_: None, None)
    fitted(x)

def peak():
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

fit(64)
before = peak()
fit(int(sys.argv[1]))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("n", "learner"),
    [
        (1500, "ridge"),
        (1500, "grid"),
        (EIGENDECOMPOSITION_LIMIT + 400, "grid"),
        (2400, "machine"),
        (5000, "nystrom"),
        (3000, "iterative"),
    ],
)
def test_a_fit_stays_within_its_plan_and_uses_much_of_it(n: int, learner: str) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", PEAK_OF_ONE_FIT, str(n), learner], capture_output=True, text=True, check=True
    )
    if learner == "machine":
        planned = feature_machine_memory_bytes(n, n)
    else:
        solver = learner if learner in {"nystrom", "iterative"} else "exact"
        planned = kernel_memory_bytes(n, n, 1 if learner == "ridge" else None, solver=solver, centres=700)
    used = int(answer.stdout)
    # 16 MiB: what the allocator and the linear algebra library keep for themselves.
    assert 0.4 * planned < used < planned + 2**24


def test_a_low_rank_is_planned_cheaper_than_a_full_gram() -> None:
    assert kernel_seconds(4000, 1000, 1, rank=231) < 0.1 * kernel_seconds(4000, 1000, 1, rank=None)
    assert kernel_seconds(4000, 1000, 1, rank=3000) == kernel_seconds(4000, 1000, 1, rank=None)


def test_seconds_grow_with_every_part_of_the_work() -> None:
    assert kernel_seconds(1000, 100, 5, None) > kernel_seconds(1000, 100, 1, None)
    assert kernel_seconds(4000, 10_000, 1, None) > kernel_seconds(4000, 100, 1, None)
    few = feature_machine_seconds(4000, 100, pairs=1, rounds=5, validation_fraction=0.2)
    many = feature_machine_seconds(4000, 100, pairs=12, rounds=5, validation_fraction=0.2)
    assert many > few > feature_machine_seconds(4000, 100, 1, 1, 0.2)


@pytest.mark.parametrize(
    ("learner", "seconds"),
    [
        ({"kind": "kernel_ridge", "kernel": {"kind": "ntk"}}, (5, 20)),
        ({"kind": "kernel_ridge", "kernel": {"kind": "polynomial", "degree": 2}}, (0.05, 1)),
        (
            {
                "kind": "kernel_ridge",
                "kernel": {"kind": "polynomial", "degree": 2},
                "feature_map": "quadratic",
            },
            (0.3, 2),
        ),
        ({"kind": "recursive_feature_machine"}, (10, 40)),
    ],
)
def test_a_runs_estimate_comes_from_the_plan(learner: dict, seconds: tuple[float, float]) -> None:
    target = {"kind": "hierarchical_quadratic", "widths": [3, 2], "alphas": [1, 0.1]}
    run = RunSpec.model_validate({"target": target, "learner": learner, "n": 4000, "dim": 20, "seed": 0})
    estimate = estimate_run(run)
    assert seconds[0] < estimate.seconds < seconds[1]
    if "kernel" not in learner:
        planned = feature_machine_memory_bytes(4000, run.budget.test_samples, 20)
    else:
        dim = 40 if learner.get("feature_map") == "quadratic" else 20
        planned = kernel_ridge_memory_bytes(run.learner, 4000, dim, run.budget.test_samples)
    assert estimate.memory_bytes == planned
