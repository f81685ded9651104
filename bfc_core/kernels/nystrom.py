"""Kernel ridge on centres: the Nyström approximation, whitened.

Williams and Seeger, "Using the Nyström Method to Speed Up Kernel Machines" (2000). With centres c, K_cc = L Lᵀ and
Φ(x) = k(x, c) L⁻ᵀ the kernel Φ Φᵀ is the best that the span of the centres allows, and Φ is an ordinary feature map:
the whole ridge path with leave-one-out comes from ΦᵀΦ, which is formed block by block. Whitening by L is what keeps
ΦᵀΦ well enough conditioned; in the basis k(·, c) its condition would be squared. The leave-one-out error treats the
centres as given, which is optimistic by about the share of samples that are centres.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.errors import KernelNotPositiveDefinite
from bfc_core.kernel_cost import BLOCK_ROWS
from bfc_core.kernels.base import Kernel
from bfc_core.kernels.cholesky import factor_with_jitter
from bfc_core.kernels.gram import cross_gram

ROWS = 4 * BLOCK_ROWS
"""Samples whose features are alive at a time."""


@dataclass(frozen=True)
class NystromFeatures:
    """Φ(x) = k(x, centres) L⁻ᵀ with K_cc + jitter I = L Lᵀ; the features of r centres are r numbers."""

    kernel: Kernel
    centres: Float[Tensor, "r d"]
    factor: Float[Tensor, "r r"]
    jitter: float

    @classmethod
    def of(cls, kernel: Kernel, centres: Float[Tensor, "r d"]) -> "NystromFeatures":
        """Factor the centres' gram, with a jitter where rounding made it indefinite.

        Raises:
            KernelNotPositiveDefinite: the largest jitter did not help, or the gram is not finite.
        """
        gram = kernel.gram(centres)
        if not gram.isfinite().all():
            raise KernelNotPositiveDefinite("the gram holds values that are not finite")
        factor, jitter = factor_with_jitter(gram)
        return cls(kernel, centres, factor.tril_(), jitter)

    def __call__(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n r"]:
        """Φ(x)."""
        features = cross_gram(self.kernel.block, x, self.centres)
        # In column order: solved where it stands.
        torch.linalg.solve_triangular(self.factor, features.mT, upper=False, out=features.mT)
        return features

    def blocks(self, x: Float[Tensor, "n d"], alive: Callable[[], None]) -> Iterator[Float[Tensor, "b r"]]:
        """Φ of all rows, a block at a time; ``alive`` is called before each."""
        for start in range(0, len(x), ROWS):
            alive()
            yield self(x[start : start + ROWS])

    def matrix(self, x: Float[Tensor, "n d"], alive: Callable[[], None]) -> Float[Tensor, "n r"]:
        """Φ of all rows at once."""
        features = torch.empty(len(x), len(self.centres), dtype=x.dtype, device=x.device)
        for block, start in zip(self.blocks(x, alive), range(0, len(x), ROWS), strict=True):
            features[start : start + ROWS] = block
        return features

    def weights_of_centres(self, weights: Float[Tensor, "r t"]) -> Float[Tensor, "r t"]:
        """Weights α of Σ_c α_c k(·, c) from those of the features."""
        solved: Tensor = torch.linalg.solve_triangular(self.factor.mT, weights, upper=True)
        return solved
