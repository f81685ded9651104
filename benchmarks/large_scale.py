"""Kernel ridge on 100 000 samples, by centres and exactly: seconds and memory of a fit in a process of its own."""

import time

import torch

from benchmarks.timing import Ratio, Result, extra_memory_bytes

CLAIM = "Fits of n = 100 000, dim 30, by Nyström and by the iterative solver, take less than 180 seconds and 6 GiB."

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
kernel = {"kind": "rbf", "bandwidths": [2.0]}
body = {"kind": "kernel_ridge", "kernel": kernel, "solver": sys.argv[5], "centres": centres}
fitted = fit_kernel_ridge(KernelRidge.model_validate(body), x, y, lambda *_: None, 6 * 2**30)
print(fitted.selection, file=sys.stderr)
print(peak())
"""


def measure(repetitions: int) -> Result:
    """The whole process, with its imports and the drawing of its data."""
    arms: dict[str, list[float]] = {}
    ratios = []
    for solver, most in (("nystrom", 2), ("iterative", 1)):
        seconds, peaks = [], []
        for _ in range(min(repetitions, most)):
            started = time.perf_counter()
            peaks.append(extra_memory_bytes(_FIT, N, DIM, CENTRES, torch.get_num_threads(), solver))
            seconds.append(time.perf_counter() - started)
        arms[solver] = seconds
        gibibytes = tuple(peak / 2**30 for peak in peaks)
        ratios.append(Ratio(f"seconds, {solver}", tuple(seconds), 180.0, is_upper=True))
        ratios.append(Ratio(f"peak GiB of the process, {solver}", gibibytes, 6.0, is_upper=True))
    return Result(
        arms,
        ratios,
        {"n": N, "dim": DIM, "centres": CENTRES, "kernel": "rbf"},
    )
