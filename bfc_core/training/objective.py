"""The data term: Huber or squared loss of the residual, or the logistic loss of the margin, with its slope.

Regression: the residual is F(x) − y. Classification (arXiv:2001.04413 §3): log(1 + exp(−Y v (x₀ + F(x)))) with
Y = ±1 and v ≈ 1/ε, and Reg is multiplied by v, so that both parts grow alike.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.specs import Recipe

Loss = Literal["huber", "squared", "logistic"]

WIDEST_VECTORS = 128
"""Bytes that a CPU's loop takes at once: two vectors of AVX-512."""


@dataclass(frozen=True)
class Objective:
    """Which data term, with its constants: δ of Huber, v of the logistic loss."""

    loss: Loss
    delta: float = 1.0
    margin_slope: float = 1.0

    @classmethod
    def of(cls, recipe: Recipe, task: Literal["regression", "classification"]) -> "Objective":
        """The data term that a recipe uses for a task."""
        loss: Loss = "logistic" if task == "classification" else recipe.loss
        return cls(loss, recipe.huber_delta, recipe.margin_slope)

    @property
    def regularizer_weight(self) -> float:
        """What Reg is multiplied by."""
        return self.margin_slope if self.loss == "logistic" else 1.0

    def value(self, predicted: Float[Tensor, "e n"], y: Float[Tensor, "e n"]) -> Float[Tensor, " e"]:
        """Mean over the rows; ``predicted`` is F(x), or x₀ + F(x) in classification."""
        return self.row_values(predicted, y).mean(-1)

    def row_values(self, predicted: Float[Tensor, "e n"], y: Float[Tensor, "e n"]) -> Float[Tensor, "e n"]:
        """The loss of every row: r², Huber's ½r² / δ(|r| − ½δ), or the logistic loss."""
        if self.loss == "logistic":
            return _row_by_row(torch.nn.functional.softplus, -self.margin_slope * y * predicted)
        residual = predicted - y
        if self.loss == "squared":
            return residual.square()
        size, delta = residual.abs(), self.delta
        return torch.where(size <= delta, 0.5 * residual.square(), delta * (size - 0.5 * delta))

    def row_slopes(self, predicted: Float[Tensor, "e n"], y: Float[Tensor, "e n"]) -> Float[Tensor, "e n"]:
        """∂/∂predicted of :meth:`row_values`."""
        if self.loss == "logistic":
            v = self.margin_slope
            return -v * y * _row_by_row(torch.sigmoid, -v * y * predicted)
        residual = predicted - y
        return residual.mul_(2) if self.loss == "squared" else residual.clamp_(-self.delta, self.delta)

    def row_curvatures(
        self, predicted: Float[Tensor, "e n"], y: Float[Tensor, "e n"]
    ) -> Float[Tensor, "e n"]:
        """∂²/∂predicted² of :meth:`row_values`; for Huber the weight δ/max(|r|, δ) of reweighted least squares."""
        if self.loss == "logistic":
            share = _row_by_row(torch.sigmoid, -self.margin_slope * y * predicted)
            return self.margin_slope**2 * share * (1 - share)
        if self.loss == "squared":
            return torch.full_like(predicted, 2.0)
        return self.delta / (predicted - y).abs().clamp_min(self.delta)


def _row_by_row(function: Callable[[Tensor], Tensor], z: Float[Tensor, "*e n"]) -> Float[Tensor, "*e n"]:
    """The function of every row, by the same bits whatever rows are beside it.

    A CPU takes exponentials in vectors, and what is left at the end of an array otherwise, in the last bit. So either
    rows are whole vectors, or each is an array of its own.
    """
    if z.ndim == 1 or z.device.type != "cpu" or z.shape[-1] * z.element_size() % WIDEST_VECTORS == 0:
        return function(z)
    return torch.stack([function(row) for row in z])
