"""The data term: Huber or squared loss of the residual, or the logistic loss of a margin, with its slope."""

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


def logistic_value(
    margin: Float[Tensor, "e n"], labels: Float[Tensor, "e n"], scale: float
) -> Float[Tensor, " e"]:
    """Mean over rows of log(1 + exp(−v Y margin)) / v.

    Source: arXiv:2001.04413 §4 minimises log(1 + exp(−v Y (x₀ + F))) + v·Reg; both are divided by v here, so
    that the regulariser and its weights are those of regression.
    """
    loss = torch.nn.functional.softplus(-scale * labels * margin).mean(-1)
    return loss / scale


def logistic_slope(
    margin: Float[Tensor, "e n"], labels: Float[Tensor, "e n"], scale: float
) -> Float[Tensor, "e n"]:
    """∂/∂margin of :func:`logistic_value`: at most 1/n in size, whatever v is."""
    return -labels * torch.sigmoid(-scale * labels * margin) / margin.shape[-1]
