"""The Gaussian (radial basis function) kernel."""

from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.flops.kernels import PairFlops
from bfc_core.kernels.base import Kernel


class RbfKernel(Kernel):
    """k(x, z) = exp(−‖x − z‖² / (2 · bandwidth² · d)): a bandwidth of order 1 suits every dimension."""

    def __init__(self, bandwidth: float) -> None:
        self.bandwidth = bandwidth

    def block(self, x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        """exp(−‖x − z‖² / (2 · bandwidth² · d)), the exponent whole from one product of rows with two columns more.

        Rounding may leave the exponent of coincident points above zero.
        """
        scale = 1 / (self.bandwidth * sqrt(x.shape[1]))
        x, z = x * scale, z * scale
        halves_x, halves_z = x.square().sum(1, keepdim=True) / -2, z.square().sum(1, keepdim=True) / -2
        left = torch.cat([x, halves_x, torch.ones_like(halves_x)], dim=1)
        right = torch.cat([z, torch.ones_like(halves_z), halves_z], dim=1)
        return (left @ right.mT).clamp_max_(0.0).exp_()

    def flops(self, dim: int) -> PairFlops:
        """The product has two columns more."""
        return PairFlops(2 * (dim + 2))

    def diagonal(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Ones."""
        return torch.ones(x.shape[0], dtype=x.dtype, device=x.device)
