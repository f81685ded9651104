"""Nyström kernel ridge on 100 000 samples: seconds and memory of a fit in a process of its own."""

import time

import torch

from benchmarks.timing import Ratio, Result, extra_memory_bytes

CLAIM = "A Nyström fit of n = 100 000, dim 30, takes less than 180 seconds and 6 GiB."

N, DIM, CENTRES = 100_000, 30, 1000

_FIT = """
import sys
import torch
torch.set_num_threads(int(sys.argv[4]))
from bfc_core.learners.kernel_ridge import fit_kernel_ridge
from bfc_core.specs import KernelRidge
n, dim, centres = map(int, sys.argv[1:4])
generator = torch.Generator().manual_seed(0)
x = torch.randn(n, dim, generator=generator, dtype=torch.float64)
y = x[:, 0] * x[:, 1] + 0.1 * torch.randn(n, generator=generator, dtype=torch.float64)
body = {"kind": "kernel_ridge", "kernel": {"kind": "rbf", "bandwidths": [2.0]}, "solver": "nystrom", "centres": centres}
fitted = fit_kernel_ridge(KernelRidge.model_validate(body), x, y, lambda *_: None, 6 * 2**30)
print(fitted.selection, file=sys.stderr)
print(peak())
"""


def measure(repetitions: int) -> Result:
    """The whole process, with its imports and the drawing of its data."""
    seconds, peaks = [], []
    for _ in range(min(repetitions, 2)):
        started = time.perf_counter()
        peaks.append(extra_memory_bytes(_FIT, N, DIM, CENTRES, torch.get_num_threads()))
        seconds.append(time.perf_counter() - started)
    return Result(
        {"nystrom": seconds},
        [
            Ratio("seconds", tuple(seconds), 180.0, is_upper=True),
            Ratio("peak GiB of the process", tuple(peak / 2**30 for peak in peaks), 6.0, is_upper=True),
        ],
        {"n": N, "dim": DIM, "centres": CENTRES, "kernel": "rbf"},
    )
