"""Values of a tied network and how every parameter moves them: what a Gauss–Newton step asks for.

With every active level tied and nothing truncated, S_ℓ = K_ℓ h_ℓ and F = Σ_ℓ α_ℓ |S_ℓ|². Then ∂F/∂K_ℓ of a row is
(∂F/∂S_ℓ) h_ℓᵀ, where ∂F/∂S_ℓ is 2 α_ℓ S_ℓ and what the levels above make of σ(R_ℓ S_ℓ). The functions are those of
:mod:`bfc_core.networks.distilled_densenet`; rows are the *last* axis, where products and passes over arrays are fast.

Letters: b batches of rows, each with parameters of its own, n rows of a batch, i length of h_ℓ, k rows of K, q rows
of R, p parameters.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.networks.distilled_densenet import LevelShape
from bfc_core.specs import LOWEST_LEVEL


class TiedPass:
    """The values of some rows, and what their derivatives need.

    Args:
        shapes: of every level.
        weights: K_ℓ of the active levels, from the lowest.
        lifts: R_ℓ of the levels that others read.
        alphas: α_ℓ.
        level_one_mean: what level 1 takes from x².
        x: the batches, rows last.
    """

    def __init__(
        self,
        shapes: dict[int, LevelShape],
        weights: dict[int, Float[Tensor, "b k i"]],
        lifts: dict[int, Float[Tensor, "b q k"]],
        alphas: dict[int, Float[Tensor, " b"]],
        level_one_mean: float,
        x: Float[Tensor, "b dim n"],
    ) -> None:
        self._shapes, self._weights, self._lifts, self._alphas = shapes, weights, lifts, alphas
        self.h: dict[int, Float[Tensor, "b i n"]] = {}
        """h_ℓ."""
        self._feature: dict[int, Float[Tensor, "b k n"]] = {}
        self._pre: dict[int, Float[Tensor, "b q n"]] = {}
        read: dict[int, Tensor] = {0: x}
        if any(1 in shapes[level].sources for level in weights):
            read[1] = x.square().sub_(level_one_mean)
        self.output: Float[Tensor, "b n"] = x.new_zeros(len(x), x.shape[2])
        """F of every row."""
        for level, k in weights.items():
            sources = shapes[level].sources
            self.h[level] = (
                read[sources[0]] if len(sources) == 1 else torch.cat([read[j] for j in sources], 1)
            )
            feature = torch.bmm(k, self.h[level])
            self._feature[level] = feature
            self.output.addcmul_(feature.square().sum(1), alphas[level][:, None])
            if any(level in shapes[above].sources for above in weights if above > level):
                self._pre[level] = torch.bmm(lifts[level], feature)
                read[level] = self._pre[level].square()

    def reaches(self, trainable: tuple[int, ...]) -> dict[int, Float[Tensor, "b k n"]]:
        """∂F/∂S_ℓ of every row, of the trainable levels and those above the lowest of them."""
        lowest = max(LOWEST_LEVEL, min(trainable))
        above: dict[int, Tensor] = {}
        reaches: dict[int, Tensor] = {}
        for level in reversed(self._weights):
            if level < lowest:
                continue
            reach = self._feature[level] * (2 * self._alphas[level])[:, None, None]
            if level in above:
                reach.baddbmm_(self._lifts[level].mT, above[level] * self._pre[level], alpha=2)
            reaches[level] = reach
            shape = self._shapes[level]
            for j in shape.sources:
                if j >= lowest:
                    back = torch.bmm(self._weights[level][..., shape.columns(j)].mT, reach)
                    above[j] = above[j] + back if j in above else back
        return reaches

    def jacobian(
        self, reaches: dict[int, Float[Tensor, "b k n"]], trainable: tuple[int, ...]
    ) -> Float[Tensor, "b p n"]:
        """∂F/∂K of every row; the second axis is K of the trainable levels, row by row.

        ``reaches`` are :meth:`reaches`; a factor a row in them is one in the answer.
        """
        batches, rows = self.output.shape
        sizes = {level: self._shapes[level].k * self._shapes[level].i for level in trainable}
        jacobian = self.output.new_empty(batches, sum(sizes.values()), rows)
        start = 0
        for level, size in sizes.items():
            own = jacobian[:, start : start + size].view(batches, self._shapes[level].k, -1, rows)
            torch.mul(reaches[level][:, :, None], self.h[level][:, None], out=own)
            start += size
        return jacobian
