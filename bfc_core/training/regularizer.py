"""Reg of arXiv:2001.04413 §4: it ties K_ℓ to W_ℓ and keeps both small.

With M = WᵀW, N = KᵀK, D = N − M (i × i) and ◁ the sources other than ℓ − 1:

    Reg_ℓ = λ₃‖D_{ℓ−1,◁}‖² + λ₄‖D_{ℓ−1,ℓ−1}‖² + λ₅‖D‖² + λ₆(‖K‖² + ‖W‖²)

so the first three terms are Σ Λ ⊙ D² with one matrix Λ, and with Λ̄ its symmetric part
∂/∂K = 4 K (Λ̄ ⊙ D), ∂/∂W = −4 W (Λ̄ ⊙ D). At ℓ = 2 there is no ◁ and λ₃ is void. A tied level has D = 0 and
one matrix: only λ₆‖K‖² is left.

Where h is longer than the k + m rows of K and W there is a shorter way. Let Z stack W and K, s = −1 on rows of W and
+1 on rows of K, so D = Zᵀ diag(s) Z. Λ̄ is constant on the block of two sources b and c, hence on the columns of c

    ∂/∂Z_c = 4 diag(s) (Σ_b λ̄_bc Z_b Z_bᵀ) diag(s) Z_c,

which needs (k + m)² i operations instead of (k + m) i².
"""

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.networks.distilled_densenet import DistilledDenseNet
from bfc_core.training.regularizer_gradient import RegularizerGradient


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
        # Made when they are first asked for: a measurement does not ask.
        self._ties: dict[int, Tensor] = {}

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
                total = total + (self._tie(level) * (k.mT @ k - w.mT @ w).square()).sum((1, 2))
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
                for number, tie in self._tied_sums(level, apart).items():
                    found[level, number] = squared * tie
            found[level, 6] = self.norm_weight * small
        return found

    def _tied_sums(self, level: int, apart: Float[Tensor, "e i i"]) -> dict[int, Float[Tensor, " e"]]:
        """Σ of each λ over the entries that it is for, by its number: :func:`tie_matrices` without the matrices."""
        lambda_3, lambda_4, lambda_5 = self._tie_weights
        sums = {5: lambda_5 * apart.sum((1, 2))}
        if level - 1 in self.network.levels[level].sources:
            below = self.network.levels[level].columns(level - 1)
            corner = apart[:, below, below].sum((1, 2))
            sums[4] = lambda_4 * corner
            sums[3] = lambda_3 * (apart[:, below].sum((1, 2)) - corner)
        return sums

    def _tie(self, level: int) -> Float[Tensor, "e i i"]:
        if level not in self._ties:
            tie = _tie_matrix(self.network, level, self._tie_weights).to(self._alphas[level])
            self._ties[level] = self._alphas[level].square()[:, None, None] * tie
        return self._ties[level]

    def gradient_into(
        self,
        gradient: Float[Tensor, "e p"],
        flat: Float[Tensor, "e p"],
        trainable: tuple[int, ...],
        distilled: tuple[int, ...],
    ) -> RegularizerGradient:
        """What writes the gradient of :meth:`value` with respect to the trainable levels, time and again."""
        ties = {
            level: self._tie(level)
            for level in trainable
            if level in distilled and level not in self.network.tied
        }
        return RegularizerGradient(self.network, flat, gradient, ties, self.norm_weight, trainable)


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
