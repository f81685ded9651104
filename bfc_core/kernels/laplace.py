"""The Laplace kernel under a Mahalanobis metric, and the gradients of what it predicts."""

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.flops.kernels import PairFlops, metric_flops
from bfc_core.kernel_cost import BLOCK_ROWS
from bfc_core.kernels.base import Kernel
from bfc_core.kernels.distance import separations, squared_distances
from bfc_core.kernels.pulse import beat

_LARGEST_RATE = 1e300
"""Of a bandwidth beyond all measure: times a distance of 0 it is still 0."""


class LaplaceKernel(Kernel):
    """k(x, z) = exp(−‖x − z‖_M / bandwidth), ‖v‖_M² = vᵀ M v; without ``metric`` M is the identity."""

    def __init__(self, bandwidth: float, metric: Float[Tensor, "d d"] | None = None) -> None:
        self.bandwidth = bandwidth
        self.metric = metric
        self._root = None if metric is None else _square_root(metric)

    def block(self, x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        """exp(−‖x − z‖_M / bandwidth)."""
        distances = squared_distances(*self._mapped(x, z)).sqrt_()
        return distances.mul_(-min(1.0 / self.bandwidth, _LARGEST_RATE)).exp_()

    def diagonal(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Ones."""
        return torch.ones(x.shape[0], dtype=x.dtype, device=x.device)

    def flops(self, dim: int) -> PairFlops:
        """An inner product a pair, after the metric's root a row."""
        return metric_flops(dim, has_metric=self.metric is not None)

    def gradients(
        self, x: Float[Tensor, "t d"], anchors: Float[Tensor, "n d"], weights: Float[Tensor, " n"]
    ) -> Float[Tensor, "t d"]:
        """∇f(x_j) of f(x) = Σ_i weights_i k(x, anchors_i).

        ∇f(x_j) = −(1/bandwidth) M (x_j Σ_i G_ji − Σ_i G_ji anchors_i) with G_ji = weights_i k_ji / ‖x_j − anchors_i‖_M.
        A pair of coincident points contributes nothing: the kernel has a kink there, and 0 is the mean of
        its one-sided derivatives. So do points nearer than rounding, whose direction is not known.
        """
        gradients = torch.empty_like(x)
        weighted = torch.cat([anchors, torch.ones_like(anchors[:, :1])], dim=1) * weights[:, None]
        for start in range(0, x.shape[0], BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            total = torch.zeros(x[rows].shape[0], weighted.shape[1], dtype=x.dtype, device=x.device)
            for column in range(0, anchors.shape[0], BLOCK_ROWS):
                columns = slice(column, column + BLOCK_ROWS)
                distances = separations(*self._mapped(x[rows], anchors[columns])).sqrt_()
                slopes = (distances * (-1.0 / self.bandwidth)).exp_().div_(distances)
                slopes.masked_fill_(distances == 0, 0.0)
                total += slopes @ weighted[columns]
                beat()
            gradients[rows] = (total[:, :-1] - x[rows] * total[:, -1:]) / self.bandwidth
        return gradients if self.metric is None else gradients @ self.metric

    def _mapped(
        self, x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
        """Rows whose Euclidean distances are those under the metric."""
        return (x, z) if self._root is None else (x @ self._root, z @ self._root)


def _square_root(metric: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """The symmetric root; eigenvalues that rounding made negative count as zero."""
    values, vectors = torch.linalg.eigh(metric)
    root: Tensor = (vectors * values.clamp_min(0.0).sqrt()) @ vectors.mT
    return root
