"""The tangent kernel of a finite dense network at its start, by layers instead of by gradients.

The gradient of a scalar output for the weights of one layer is an outer product δ h ᵀ, so

    Θ(x, z) = Σ_l (δ_l(x) · δ_l(z)) (s_w² h_{l−1}(x) · h_{l−1}(z) / n_{l−1} + s_b²),

two matrix products a layer, where the gradients themselves would be n × (number of weights). h are the layers'
inputs, δ_l the derivative of the output for the layer's pre-activation.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import pi, sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.flops.baselines import tangent_flops
from bfc_core.flops.kernels import PairFlops
from bfc_core.kernel_cost import BLOCK_ROWS
from bfc_core.kernels.base import Kernel
from bfc_core.kernels.pulse import beat
from bfc_core.specs.kernels import NetworkActivation


@dataclass(frozen=True)
class LayerFactors:
    """Per layer the inputs h_{l−1} scaled by s_w/√n_{l−1}, and δ_l; rows are samples."""

    inputs: tuple[Float[Tensor, "n i"], ...]
    slopes: tuple[Float[Tensor, "n o"], ...]

    def rows(self, rows: slice) -> "LayerFactors":
        """Some of the samples."""
        return LayerFactors(tuple(h[rows] for h in self.inputs), tuple(s[rows] for s in self.slopes))


class EmpiricalNtkKernel(Kernel):
    """Θ of one network with ``depth`` hidden layers of ``width`` neurons, NTK parametrisation, one output."""

    def __init__(
        self,
        dim: int,
        width: int,
        depth: int,
        activation: NetworkActivation,
        weight_variance: float,
        bias_variance: float,
        generator: torch.Generator,
    ) -> None:
        self.activation: NetworkActivation = activation
        self.weight_variance, self.bias_variance = weight_variance, bias_variance
        sizes = [dim, *[width] * depth, 1]
        self.weights = [
            torch.randn(rows, columns, generator=generator, dtype=torch.float64)
            for rows, columns in pairwise(sizes)
        ]
        self.biases = [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes[1:]]

    def factors(self, x: Float[Tensor, "n d"]) -> LayerFactors:
        """One forward and one backward pass by hand."""
        inputs, derivatives = [], []
        h = x
        for layer, (weights, biases) in enumerate(zip(self.weights, self.biases, strict=True)):
            scaled = h * sqrt(self.weight_variance / weights.shape[0])
            inputs.append(scaled)
            if layer + 1 < len(self.weights):
                h, derivative = self._activated(
                    torch.addmm(biases * sqrt(self.bias_variance), scaled, weights)
                )
                derivatives.append(derivative)
        slope = torch.ones_like(x[:, :1])
        slopes = [slope]
        for weights, derivative in zip(reversed(self.weights[1:]), reversed(derivatives), strict=True):
            slope = (slope @ weights.mT).mul_(sqrt(self.weight_variance / weights.shape[0])).mul_(derivative)
            slopes.append(slope)
        return LayerFactors(tuple(inputs), tuple(reversed(slopes)))

    def block(self, x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        """Θ(x, z)."""
        return self._combined(self.factors(x), self.factors(z))

    def diagonal(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Σ_l ‖δ_l‖² (‖h‖² s_w²/n + s_b²)."""
        factors = self.factors(x)
        return torch.stack(
            [
                slopes.square().sum(1) * (inputs.square().sum(1) + self.bias_variance)
                for inputs, slopes in zip(factors.inputs, factors.slopes, strict=True)
            ]
        ).sum(0)

    def flops(self, dim: int) -> PairFlops:
        """Two products a layer and pair, and two passes a row."""
        return tangent_flops(dim, self.weights[0].shape[1], len(self.weights) - 1)

    def gram(self, x: Float[Tensor, "n d"], z: Float[Tensor, "m d"] | None = None) -> Float[Tensor, "n m"]:
        """One pass through the network for every row, then blocks; symmetric with its exact diagonal without z."""
        mine = self.factors(x)
        symmetric = z is None or z is x
        other = mine if z is None or z is x else self.factors(z)
        gram = torch.empty(len(x), len(other.slopes[0]), dtype=x.dtype, device=x.device)
        for start in range(0, len(x), BLOCK_ROWS):
            rows = slice(start, min(start + BLOCK_ROWS, len(x)))
            for column in range(0, rows.stop if symmetric else gram.shape[1], BLOCK_ROWS):
                columns = slice(column, column + BLOCK_ROWS)
                values = self._combined(mine.rows(rows), other.rows(columns))
                if symmetric and column == start:
                    values = (values + values.mT).mul_(0.5)
                gram[rows, columns] = values
                if symmetric:
                    gram[columns, rows] = values.mT
                beat()
        if symmetric:
            gram.diagonal().copy_(self.diagonal(x))
        return gram

    def _combined(self, x: LayerFactors, z: LayerFactors) -> Float[Tensor, "n m"]:
        total = torch.zeros(len(x.slopes[0]), len(z.slopes[0]), dtype=x.slopes[0].dtype)
        for inputs, slopes, other_inputs, other_slopes in zip(
            x.inputs, x.slopes, z.inputs, z.slopes, strict=True
        ):
            product = torch.mm(inputs, other_inputs.mT).add_(self.bias_variance)
            total.addcmul_(product, torch.mm(slopes, other_slopes.mT))
        return total

    def _activated(self, z: Float[Tensor, "n w"]) -> tuple[Float[Tensor, "n w"], Float[Tensor, "n w"]]:
        """φ and φ′."""
        match self.activation:
            case "relu":
                return z.clamp_min(0.0), (z > 0).to(z.dtype)
            case "erf":
                return torch.erf(z), z.square().neg_().exp_().mul_(2 / sqrt(pi))
            case "quadratic":
                return z.square(), 2 * z
            case "centred_quadratic":
                return (z.square() - 1).mul_(1 / sqrt(2)), sqrt(2) * z
