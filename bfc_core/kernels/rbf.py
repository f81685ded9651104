"""The Gaussian (radial basis function) kernel."""

from math import e, log2, sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.flops.counting import charged
from bfc_core.flops.kernels import PairFlops
from bfc_core.kernels.base import Blocks, Kernel
from bfc_core.kernels.distance import squared_distances, without_offset

REACH = 64.0
"""Exponents whose two squares are at most this large come from one product: their error is this much rounding."""

NEAR = 1e-3
"""Beyond that, pairs nearer than this share of their squares are what a small bandwidth is about."""

_UNIT = sqrt(log2(e))
"""Distances in it have exponents of 2: those take a third of the time of exp's on some processors (decision 66)."""

_LARGEST_RATE = 1e300
"""Of a bandwidth beyond all measure: times a distance of 0 it is still 0."""


class RbfKernel(Kernel):
    """k(x, z) = exp(−‖x − z‖² / (2 · bandwidth² · d)): a bandwidth of order 1 suits every dimension."""

    def __init__(self, bandwidth: float) -> None:
        self.bandwidth = bandwidth

    def block(self, x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        """exp(−‖x − z‖² / (2 · bandwidth² · d)), the exponent whole from one product of rows with two columns more.

        Rounding may leave the exponent of coincident points above zero. Where the bandwidth is small beside the
        points' norms, that rounding would show: the distances are taken first and close points by their differences.
        """
        factors = self._factors(*without_offset(x, z))
        if factors is None:
            scale = self._scale(x.shape[1])
            rate = min(scale * scale / 2, _LARGEST_RATE)
            with charged(self.flops(x.shape[1]).block(len(x), len(z))):
                return squared_distances(x, z, NEAR).mul_(-rate).exp_()
        left, right = factors
        return (left @ right.mT).clamp_max_(0.0).exp2_()

    def blocks_of(self, x: Float[Tensor, "n d"]) -> Blocks:
        """The two factors of all exponents, once."""
        factors = self._factors(*without_offset(x, x))
        if factors is None:
            return super().blocks_of(x)
        left, right = factors
        memory = x.new_empty(0)

        def block(rows: slice, columns: slice) -> Tensor:
            nonlocal memory
            some, others = left[rows], right[columns]
            if memory.shape != (len(some), len(others)):
                memory = x.new_empty(len(some), len(others))
            return torch.mm(some, others.mT, out=memory).clamp_max_(0.0).exp2_()

        return block

    def _factors(
        self, x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]
    ) -> tuple[Float[Tensor, "n d+2"], Float[Tensor, "m d+2"]] | None:
        """Rows whose products are the exponents; None where their rounding would show."""
        scale = self._scale(x.shape[1]) * _UNIT
        x, z = x * scale, z * scale
        halves_x = x.square().sum(1, keepdim=True) / -2
        halves_z = z.square().sum(1, keepdim=True) / -2
        # Written so that a number that is none is seen too.
        if not bool(halves_x.min() + halves_z.min() >= -REACH):
            return None
        left = torch.cat([x, halves_x, torch.ones_like(halves_x)], dim=1)
        right = torch.cat([z, torch.ones_like(halves_z), halves_z], dim=1)
        return left, right

    def _scale(self, dim: int) -> float:
        return 1 / (self.bandwidth * sqrt(dim))

    def flops(self, dim: int) -> PairFlops:
        """The product has two columns more."""
        return PairFlops(2 * (dim + 2))

    def diagonal(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Ones."""
        return torch.ones(x.shape[0], dtype=x.dtype, device=x.device)
