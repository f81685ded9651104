"""Kernel ridge at one ridge, fit and predict: float64 and mixed precision against scikit-learn and plain torch."""

import numpy as np
import torch
from sklearn.kernel_ridge import KernelRidge as ScikitKernelRidge

from benchmarks.timing import Ratio, Result, extra_memory_bytes, in_turn, ratio
from bfc_core.kernels.cholesky import factor_with_jitter, solve_with_factor
from bfc_core.kernels.gram import gram_times
from bfc_core.kernels.rbf import RbfKernel
from bfc_core.kernels.refinement import solve_refined

CLAIM = (
    "At n = 4000, fit and predict take at most half of scikit-learn's time and of its extra memory, for the same "
    "answer to 1e-8: with a float32 factor and float64 answers, and in float64 throughout."
)

N, TEST, DIM, RIDGE = 4000, 1000, 20, 1e-2
LARGER = 10_000
"""Where a gram outweighs what the allocator and the linear algebra library keep for themselves (about 16 MiB)."""

_GAMMA = 0.5 / DIM

_MEMORY = """
import sys
import torch
from threadpoolctl import threadpool_limits
threadpool_limits(1)
torch.set_num_threads(1)
from benchmarks import scikit_learn_ridge as arms
x, y, fresh = arms.problem(int(sys.argv[1]))
small = arms.problem(64)
arm = getattr(arms, sys.argv[2])
arm(*small)
before = peak()
arm(x, y, fresh)
print(peak() - before)
"""


def problem(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gaussian inputs, a quadratic target, fresh inputs."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, DIM, generator=generator, dtype=torch.float64)
    fresh = torch.randn(TEST, DIM, generator=generator, dtype=torch.float64)
    return x, x[:, 0] * x[:, 1] + x[:, 2], fresh


def ours(x: torch.Tensor, y: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor:
    """Blocked gram, factor in its memory, predictions block by block."""
    kernel = RbfKernel(1.0)
    gram = kernel.gram(x)
    gram.diagonal().add_(RIDGE)
    factor, _ = factor_with_jitter(gram)
    weights = solve_with_factor(factor, y[:, None])
    return gram_times(kernel.block, fresh, x, weights)[:, 0]


def refined(x: torch.Tensor, y: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor:
    """A float32 factor with float64 residuals, as ``precision: mixed`` solves."""
    kernel = RbfKernel(1.0)
    weights = solve_refined(kernel, x, y[:, None], RIDGE).coefficients
    return gram_times(kernel.block, fresh, x, weights)[:, 0]


def scikit_learn(x: torch.Tensor, y: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor:
    """The same by scikit-learn."""
    fitted = ScikitKernelRidge(alpha=RIDGE, kernel="rbf", gamma=_GAMMA).fit(x.numpy(), y.numpy())
    return torch.from_numpy(np.asarray(fitted.predict(fresh.numpy())))


def plain_torch(x: torch.Tensor, y: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor:
    """The same as one would write it down."""
    gram = torch.exp(-_GAMMA * torch.cdist(x, x).square())
    system = gram + RIDGE * torch.eye(len(x), dtype=x.dtype)
    weights = torch.cholesky_solve(y[:, None], torch.linalg.cholesky(system))
    return torch.exp(-_GAMMA * torch.cdist(fresh, x).square()) @ weights[:, 0]


def measure(repetitions: int) -> Result:
    """Time, extra memory, and the difference of the answers."""
    x, y, fresh = problem(N)
    answers: dict[str, torch.Tensor] = {}
    named = {"ours": ours, "refined": refined, "scikit-learn": scikit_learn, "plain torch": plain_torch}
    arms = {
        name: lambda arm=arm, name=name: answers.__setitem__(name, arm(x, y, fresh))
        for name, arm in named.items()
    }
    seconds = in_turn(arms, repetitions)
    memory = {arm.__name__: extra_memory_bytes(_MEMORY, N, arm.__name__) for arm in named.values()}
    difference = max(
        float((answers[name] - answers["scikit-learn"]).abs().max() / answers[name].abs().max())
        for name in ("ours", "refined")
    )
    return Result(
        seconds,
        [
            ratio(
                "scikit-learn's seconds over ours, refined", seconds["scikit-learn"], seconds["refined"], 2.0
            ),
            ratio("scikit-learn's seconds over ours, float64", seconds["scikit-learn"], seconds["ours"], 2.0),
            ratio("plain torch's seconds over ours, float64", seconds["plain torch"], seconds["ours"]),
            *(
                Ratio(
                    f"our extra memory over scikit-learn's, {name}",
                    (memory[arm] / memory["scikit_learn"],),
                    0.5,
                    is_upper=True,
                )
                for name, arm in (("refined", "refined"), ("float64", "ours"))
            ),
            Ratio(
                f"our extra memory over one gram, n = {LARGER}",
                (extra_memory_bytes(_MEMORY, LARGER, "ours") / (8 * LARGER**2),),
                1.05,
                is_upper=True,
            ),
            Ratio("largest relative difference of predictions", (difference,), 1e-8, is_upper=True),
        ],
        {"n": N, "dim": DIM, "test_samples": TEST, "kernel": "rbf", "ridge": RIDGE}
        | {f"extra_bytes_{name}": value for name, value in memory.items()},
    )
