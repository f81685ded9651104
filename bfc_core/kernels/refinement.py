"""A float32 factor with float64 answers: iterative refinement.

The gram is formed once in float64 and its lower triangle kept; the factor is made in float32, in half the time.
Together they take the memory of one float64 gram, and a residual costs one pass over what is kept. Every step
multiplies the error by about 1e-7 times the condition number, so that three steps reach 1e-9 up to a condition of about
1e6 (Higham, "Accuracy and Stability of Numerical Algorithms", chapter 12). Where the condition is too bad the steps do
not converge, which is seen and said: the caller then works in float64.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.errors import KernelNotPositiveDefinite
from bfc_core.kernels.base import Kernel
from bfc_core.kernels.cholesky import factor_in_place, solve_with_factor
from bfc_core.kernels.iterative import IterativeSolution
from bfc_core.kernels.lower_blocks import LowerBlocks

MOST_STEPS = 8
TOLERANCE = 1e-12
STALLED = 0.1
"""A step that leaves more than this share of the residual shows a condition that float32 cannot carry."""


def solve_refined(
    kernel: Kernel,
    x: Float[Tensor, "n d"],
    right_hand_sides: Float[Tensor, "n t"],
    ridge: float,
    alive: Callable[[], None] = lambda: None,
) -> IterativeSolution:
    """(K + λI)⁻¹ B to float64 accuracy from a float32 factor.

    Raises:
        KernelNotPositiveDefinite: the condition is too bad for float32.
    """
    gram = LowerBlocks.of(kernel, x, alive)
    system = gram.rounded()
    system.diagonal().add_(ridge)
    factor = factor_in_place(system, alive)
    coefficients = torch.zeros_like(right_hand_sides)
    scale = right_hand_sides.norm(dim=0).clamp_min(torch.finfo(torch.float64).tiny)
    residuals, left = right_hand_sides, torch.inf
    for step in range(MOST_STEPS):
        coefficients += solve_with_factor(factor, residuals.float()).double()
        residuals = right_hand_sides - gram.times(coefficients) - ridge * coefficients
        before, left = left, float((residuals.norm(dim=0) / scale).max())
        if left <= TOLERANCE:
            return IterativeSolution(coefficients, step + 1, left)
        if not left <= STALLED * before:
            break
    # What float64 itself leaves of a residual grows with the condition: a stall far below float32 is an answer.
    if left <= 1e3 * TOLERANCE:
        return IterativeSolution(coefficients, step + 1, left)
    raise KernelNotPositiveDefinite(
        f"refinement of a float32 factor stalls at a relative residual of {left:.1e}"
    )
