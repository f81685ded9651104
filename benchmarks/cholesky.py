"""The in-place Cholesky factor against the matrix product of the same run."""

import torch

from benchmarks.timing import Result, in_turn, ratio
from bfc_core.kernels.cholesky import factor_in_place, inverse_diagonal

CLAIM = (
    "The in-place factor runs at 0.6 or more of the GFLOP/s that a matrix product reaches in the same run."
)

N = 4000


def measure(repetitions: int) -> Result:
    """n = 4000, float64: product, our blocks, the library's call, and the diagonal of the inverse."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(N, N, generator=generator, dtype=torch.float64)
    matrix = root @ root.mT / N
    matrix.diagonal().add_(1.0)
    work, product = torch.empty_like(matrix), torch.empty_like(matrix)

    def library() -> None:
        info = torch.empty((), dtype=torch.int32)
        torch.linalg.cholesky_ex(work.mT, upper=True, out=(work.mT, info))

    arms = {
        "matrix product": lambda: torch.mm(root, root, out=product),
        "copy for the factor": lambda: work.copy_(matrix),
        "factor in place": lambda: factor_in_place(work),
        "diagonal of the inverse": lambda: inverse_diagonal(work),
        "copy for the library": lambda: work.copy_(matrix),
        "library's factor": library,
    }
    seconds = in_turn(arms, repetitions)
    # A product has 2 n³ operations, a factor n³/3.
    return Result(
        seconds,
        [
            ratio(
                "factor's share of the product's GFLOP/s",
                seconds["matrix product"],
                seconds["factor in place"],
                0.6,
                scale=1 / 6,
            ),
            ratio(
                "library's share of it", seconds["matrix product"], seconds["library's factor"], scale=1 / 6
            ),
        ],
        {
            "n": N,
            "product_gflops": round(2e-9 * N**3 / min(seconds["matrix product"]), 1),
        },
    )
