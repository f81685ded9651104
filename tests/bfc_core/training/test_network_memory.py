"""The memory that networks are estimated to take, beside what a process of their own took."""

import json
import subprocess
import sys

import pytest

from bfc_core.errors import ResourceLimitExceeded
from bfc_core.packing import estimate_pack, estimate_run
from bfc_core.run import execute_pack
from bfc_core.specs import ExperimentSpec

EXECUTE = """
import json, sys
import torch
torch.set_num_threads(1)
from bfc_core.run import execute_pack
from bfc_core.specs import ExperimentSpec
runs = ExperimentSpec.model_validate(json.loads(sys.argv[1])).runs()
def resident(name):
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith(name))
    return int(line.split()[1]) * 1024
before = resident("VmRSS")
execute_pack(runs)
print(resident("VmHWM") - before)
"""


def spec(learner: dict[str, object], n: int, dim: int, seeds: int = 1) -> dict[str, object]:
    return {
        "name": "memory",
        "target": {"kind": "hierarchical_quadratic"},
        "learners": [learner],
        "n": n,
        "dim": dim,
        "seeds": seeds,
        "budget": {"steps_per_stage": 5, "test_samples": 500},
    }


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
@pytest.mark.parametrize(
    ("learner", "n", "dim", "seeds"),
    [
        ({"kind": "joint", "width": 256, "batch_size": 65_536}, 1000, 50, 1),
        ({"kind": "joint", "width": 4, "batch_size": 65_536}, 2000, 512, 1),
        ({"kind": "joint"}, 2000, 1024, 1),
        ({"kind": "layerwise"}, 100_000, 50, 1),
        ({"kind": "joint"}, 2000, 20, 16),
    ],
    ids=["wide levels", "large batches of long rows", "long rows", "many samples, arms", "members"],
)
def test_a_process_takes_what_its_pack_is_estimated_to_take(learner, n, dim, seeds) -> None:
    document = spec(learner, n, dim, seeds)
    answer = subprocess.run(
        [sys.executable, "-c", EXECUTE, json.dumps(document)], capture_output=True, text=True, check=True
    )
    estimated = estimate_pack(ExperimentSpec.model_validate(document).runs()).memory_bytes
    assert estimated / 3 <= int(answer.stdout) <= 1.1 * estimated


def test_a_network_that_does_not_fit_is_refused_before_anything_is_drawn() -> None:
    runs = ExperimentSpec.model_validate(spec({"kind": "joint"}, 1_000_000, 4096)).runs()
    needed = estimate_run(runs[0]).memory_bytes
    with pytest.raises(ResourceLimitExceeded) as refusal:
        execute_pack(runs, memory_limit_bytes=needed - 1)
    assert refusal.value.needed_bytes == needed
