"""Reg of arXiv:2001.04413 §4: it ties K_ℓ to W_ℓ and keeps both small.

With M = WᵀW, N = KᵀK, D = N − M (i × i) and ◁ the sources other than ℓ − 1:

    Reg_ℓ = λ₃‖D_{ℓ−1,◁}‖² + λ₄‖D_{ℓ−1,ℓ−1}‖² + λ₅‖D‖² + λ₆(‖K‖² + ‖W‖²)

so the first three terms are Σ Λ ⊙ D² with one matrix Λ, and with Λ̄ its symmetric part
∂/∂K = 4 K (Λ̄ ⊙ D), ∂/∂W = −4 W (Λ̄ ⊙ D). At ℓ = 2 there is no ◁ and λ₃ is void. A tied level has D = 0 and
one matrix: only λ₆‖K‖² is left.

Where h is longer than the k + m rows of K and W there is a shorter way. Let Z stack K and W, s = +1 on rows of K and
−1 on rows of W, so D = Zᵀ diag(s) Z. Λ̄ is constant on the block of two sources b and c, hence on the columns of c

    ∂/∂Z_c = 4 diag(s) (Σ_b λ̄_bc Z_b Z_bᵀ) diag(s) Z_c,

which needs (k + m)² i operations instead of (k + m) i².
"""

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.networks.distilled_densenet import DistilledDenseNet


class Regularizer:
    """Reg and its gradient for a network, with λ₃, λ₄, λ₅ = prefactors · α_ℓ² and λ₆ given.

    All of it is multiplied by ``weight``, which is v in classification.

    Letters: e members, p parameters, i length of h_ℓ.
    """

    def __init__(
        self,
        network: DistilledDenseNet,
        tie_weights: tuple[float, float, float],
        norm_weight: float,
        alphas: dict[int, Float[Tensor, " e"]],
        weight: float = 1.0,
    ) -> None:
        lambda_3, lambda_4, lambda_5 = tie_weights
        tie_weights = (weight * lambda_3, weight * lambda_4, weight * lambda_5)
        self.network = network
        self.norm_weight = weight * norm_weight
        self._tie_weights, self._alphas = tie_weights, alphas
        self._ties = {
            level: alphas[level].square()[:, None, None]
            * _tie_matrix(network, level, tie_weights).to(alphas[level])
            for level in network.levels
        }

    def value(
        self, flat: Float[Tensor, "e p"], active: tuple[int, ...], distilled: tuple[int, ...]
    ) -> Float[Tensor, " e"]:
        """Reg of every member over the active levels; ties only where a level is distilled."""
        total = flat.new_zeros(flat.shape[0])
        for level in active:
            w, k = self.network.weights(flat, level), self.network.distilled(flat, level)
            total = total + self.norm_weight * w.square().sum((1, 2))
            if level in distilled and level not in self.network.tied:
                total = total + self.norm_weight * k.square().sum((1, 2))
                total = total + (self._ties[level] * (k.mT @ k - w.mT @ w).square()).sum((1, 2))
        return total

    def parts(
        self, flat: Float[Tensor, "e p"], active: tuple[int, ...], distilled: tuple[int, ...]
    ) -> dict[tuple[int, int], Float[Tensor, " e"]]:
        """:meth:`value` taken apart: by (level, number of the λ), each with its λ."""
        found: dict[tuple[int, int], Tensor] = {}
        for level in active:
            w, k = self.network.weights(flat, level), self.network.distilled(flat, level)
            small = w.square().sum((1, 2))
            if level in distilled and level not in self.network.tied:
                small = small + k.square().sum((1, 2))
                apart = (k.mT @ k - w.mT @ w).square()
                squared = self._alphas[level].square()
                for number, mask in tie_matrices(self.network, level, self._tie_weights).items():
                    found[level, number] = squared * (mask.to(apart) * apart).sum((1, 2))
            found[level, 6] = self.norm_weight * small
        return found

    def add_gradient(
        self,
        flat: Float[Tensor, "e p"],
        trainable: tuple[int, ...],
        distilled: tuple[int, ...],
        gradient: Float[Tensor, "e p"],
    ) -> None:
        """Add the gradient of :meth:`value` with respect to the trainable levels."""
        for level in trainable:
            w, k = self.network.weights(flat, level), self.network.distilled(flat, level)
            grad_w, grad_k = self.network.weights(gradient, level), self.network.distilled(gradient, level)
            grad_w.add_(w, alpha=2 * self.norm_weight)
            if level not in distilled or level in self.network.tied:
                continue
            grad_k.add_(k, alpha=2 * self.norm_weight)
            if w.shape[2] > w.shape[1] + k.shape[1]:
                self._add_tie_by_rows(level, w, k, grad_w, grad_k)
            else:
                gap = self._ties[level] * (k.mT @ k - w.mT @ w)
                grad_k.add_(k @ gap, alpha=4)
                grad_w.add_(w @ gap, alpha=-4)

    def _add_tie_by_rows(
        self,
        level: int,
        w: Float[Tensor, "e m i"],
        k: Float[Tensor, "e k i"],
        grad_w: Float[Tensor, "e m i"],
        grad_k: Float[Tensor, "e k i"],
    ) -> None:
        """The gradient of the ties through the grams of rows, block of columns by block."""
        rows, few = torch.cat([k, w], 1), k.shape[1]
        sign = rows.new_ones(rows.shape[1])
        sign[few:] = -1.0
        shape = self.network.levels[level]
        blocks = [shape.columns(source) for source in shape.sources]
        grams = [rows[..., block] @ rows[..., block].mT for block in blocks]
        tie = self._ties[level]
        for block in blocks:
            mixed = sum(
                tie[:, other.start, block.start][:, None, None] * gram
                for other, gram in zip(blocks, grams, strict=True)
            )
            step = (4 * sign[:, None] * mixed * sign) @ rows[..., block]
            grad_k[..., block] += step[:, :few]
            grad_w[..., block] += step[:, few:]


def _tie_matrix(
    network: DistilledDenseNet, level: int, tie_weights: tuple[float, float, float]
) -> Float[Tensor, "i i"]:
    """Λ̄, the sum over λ₃, λ₄, λ₅."""
    return torch.stack(list(tie_matrices(network, level, tie_weights).values())).sum(0)


def tie_matrices(
    network: DistilledDenseNet, level: int, tie_weights: tuple[float, float, float]
) -> dict[int, Float[Tensor, "i i"]]:
    """Λ̄ by the number of its λ: λ₅ everywhere, λ₄ on the block of ℓ − 1, λ₃/2 on both blocks between ℓ − 1 and ◁."""
    lambda_3, lambda_4, lambda_5 = tie_weights
    shape = network.levels[level]
    nothing = torch.zeros(shape.i, shape.i, dtype=torch.float64)
    matrices = {5: torch.full_like(nothing, lambda_5)}
    if level - 1 in shape.sources:
        below = torch.zeros(shape.i, dtype=torch.bool)
        below[shape.columns(level - 1)] = True
        # A number times a mask is float32 in torch: the masks are made float64 first.
        matrices[4] = lambda_4 * (below[:, None] & below).double()
        matrices[3] = lambda_3 / 2 * (below[:, None] ^ below).double()
    return matrices
