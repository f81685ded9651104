"""What a pack's process takes at most, measured by itself."""

import json
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from bfc_core.run import execute_pack
from bfc_core.specs import Outcome, Report, RunSpec
from service.runs.claims import Claim, ClaimedRun
from worker.child import _write_result
from worker.pack_folder import read_result

MIB = 2**20

PEAK = """
import numpy
from worker.peak_memory import PeakMemory
before = numpy.ones(96 * 2**17)  # 96 MiB that are nobody's of the pack
del before
held = numpy.ones(16 * 2**17)
peak = PeakMemory("cpu")
first = peak.bytes()
freed = numpy.ones(160 * 2**17)
del freed
print(first, peak.bytes())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a peak cannot be told from an earlier one")
def test_the_peak_is_what_came_on_top_also_when_it_is_gone() -> None:
    answer = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    first, peak = map(int, answer.stdout.split())
    # Where the kernel does not let a process forget its peak, what was held before hides as much of the pack's.
    assert 0 <= first < 112 * MIB
    assert 152 * MIB < peak < 184 * MIB


def test_a_finished_pack_says_its_flops_and_its_peak(embedded) -> None:
    embedded.start_worker()
    experiment_id = embedded.submit({"kind": "kernel_ridge", "kernel": {"kind": "ntk"}}, n=1800, seeds=1)
    assert embedded.wait_for_end(experiment_id) == "succeeded"
    (attempt,) = embedded.attempts()
    assert attempt.members == 1
    gram = 8 * 1800**2
    assert 2 * gram < attempt.peak_memory_bytes < 12 * gram + 64 * MIB
    (run,) = embedded.runs(experiment_id)
    (reported,) = execute_pack([RunSpec.model_validate(run.spec)])
    assert embedded.reports()[run.id].flops == reported.flops > 9 * 1800**3


def claim_of(runs: int) -> Claim:
    spec = RunSpec.model_validate(
        {
            "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
            "learner": {"kind": "linear"},
            "n": 64,
            "dim": 6,
            "seed": 0,
        }
    )
    claimed = tuple(ClaimedRun(uuid4(), spec) for _ in range(runs))
    return Claim(pack_id=1, fence=1, attempt=1, experiment_id=uuid4(), runs=claimed)


def test_a_result_that_is_adopted_brings_its_peak_and_one_of_the_version_before_brings_none(
    tmp_path: Path,
) -> None:
    claim, file = claim_of(2), tmp_path / "result.json"
    reports = [Report(outcome=Outcome.SUCCEEDED, seconds=1.0, flops=7) for _ in claim.runs]
    _write_result(file, [report.model_dump_json() for report in reports], 5 * MIB)
    result = read_result(file, claim)
    assert result is not None
    assert (list(result.reports), result.peak_memory_bytes) == (list(claim.run_ids), 5 * MIB)
    document = json.loads(file.read_text())
    del document["peak_memory_bytes"]
    file.write_text(json.dumps(document))
    earlier = read_result(file, claim)
    assert earlier is not None
    assert (earlier.reports, earlier.peak_memory_bytes) == (result.reports, None)
