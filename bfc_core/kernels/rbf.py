"""The Gaussian (radial basis function) kernel."""

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.kernels.base import Kernel
from bfc_core.kernels.distance import squared_distances


class RbfKernel(Kernel):
    """k(x, z) = exp(−‖x − z‖² / (2 · bandwidth² · d)): a bandwidth of order 1 suits every dimension."""

    def __init__(self, bandwidth: float) -> None:
        self.bandwidth = bandwidth

    def block(self, x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        """exp(−‖x − z‖² / (2 · bandwidth² · d))."""
        return squared_distances(x, z).mul_(-0.5 / (self.bandwidth**2 * x.shape[1])).exp_()

    def diagonal(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Ones."""
        return torch.ones(x.shape[0], dtype=x.dtype, device=x.device)
