"""The data term: Huber or squared loss of the residual, with its slope."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Loss = Literal["huber", "squared"]


def loss_value(residual: Float[Tensor, "e n"], loss: Loss, delta: float) -> Float[Tensor, " e"]:
    """Mean over rows of r² or of Huber's ½r² / δ(|r| − ½δ)."""
    if loss == "squared":
        return residual.square().mean(-1)
    size = residual.abs()
    return torch.where(size <= delta, 0.5 * residual.square(), delta * (size - 0.5 * delta)).mean(-1)


def loss_slope(residual: Float[Tensor, "e n"], loss: Loss, delta: float) -> Float[Tensor, "e n"]:
    """∂/∂residual of :func:`loss_value`."""
    rows = residual.shape[-1]
    return residual * (2 / rows) if loss == "squared" else residual.clamp(-delta, delta) / rows
