"""Values and gradients of a pack on one batch after another, in arrays that are made once.

The formulas are those of :mod:`bfc_core.networks.distilled_densenet`: with G = Σ_n slope · h hᵀ,
∂/∂W_ℓ = 2 α_ℓ W_ℓ G and ∂/∂h_ℓ = 2 α_ℓ slope · M_ℓ h_ℓ. What differs is where numbers stand. Rows of the batch are the
*last* axis: then h_ℓ is its sources one below the other, each a block of its own, and W h and K h are one product
with the rows of W and K, which are neighbours in a flat row. A gradient overwrites the value that it is made of.

Letters: e members, p parameters, n rows of the batch, i length of h_ℓ, m rows of W, r rows of W and K in use,
q length of R S.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.flops.networks import STEPPED_FORM_ADVANTAGE
from bfc_core.networks.distilled_densenet import DistilledDenseNet
from bfc_core.networks.member_arrays import member_arrays
from bfc_core.networks.truncation import (
    bound_in_reach,
    reach_of,
    truncated_square,
    truncated_square_derivative,
)
from bfc_core.specs import LOWEST_LEVEL


class BatchGradient:
    """∂/∂(W, K) of Σ_n loss over the trainable levels, added to an array time and again.

    Args:
        network: shapes, and which levels are tied.
        flat: parameters; read where they stand at every call.
        gradient: what is added to.
        lifts: the frozen R_ℓ.
        alphas: α_ℓ.
        active: the levels of the output, from the lowest.
        trainable: the levels whose gradient is wanted.
        rows: rows of a batch.
    """

    def __init__(
        self,
        network: DistilledDenseNet,
        flat: Float[Tensor, "e p"],
        gradient: Float[Tensor, "e p"],
        lifts: dict[int, Float[Tensor, "e q k"]],
        alphas: dict[int, Float[Tensor, " e"]],
        active: tuple[int, ...],
        trainable: frozenset[int],
        rows: int,
    ) -> None:
        self._level_one_mean = network.hierarchy.level_one_mean
        self._truncation = network.truncation
        self._x, self._square = (member_arrays(flat, network.dim, rows) for _ in range(2))
        self._output = flat.new_empty(len(flat), rows)
        lowest = max(LOWEST_LEVEL, min(trainable))
        self._levels: dict[int, _Level] = {}
        for level in active:
            inputs = {0: self._x, 1: self._square}
            feeds = any(level in network.levels[above].sources for above in active if above > level)
            self._levels[level] = _Level(
                network,
                level,
                flat,
                gradient if level in trainable else None,
                lifts[level] if feeds else None,
                alphas[level],
                inputs,
                {j: self._levels[j] for j in network.levels[level].sources if j >= LOWEST_LEVEL},
                lowest,
            )
        self._reached = [self._levels[level] for level in reversed(active) if level >= lowest]

    def forward(self, x: Float[Tensor, "e n dim"]) -> Float[Tensor, "e n"]:
        """F(x) of every member, in an array that the next call uses again."""
        self._x.copy_(x.mT)
        torch.mul(self._x, self._x, out=self._square).sub_(self._level_one_mean)
        self._output.zero_()
        for level in self._levels.values():
            level.forward(self._output, self._truncation)
        return self._output

    def backward(self, slope: Float[Tensor, "e n"]) -> None:
        """Add to the gradient, where ``slope`` is ∂loss/∂F, and use up what the forward pass left."""
        for level in self._reached:
            level.backward(slope)


class _Level:
    """One level of every member: views of its parameters, and its arrays.

    ``lift`` is None where no active level reads this one. Gradients go down to the levels from ``lowest``.
    """

    def __init__(
        self,
        network: DistilledDenseNet,
        level: int,
        flat: Tensor,
        gradient: Tensor | None,
        lift: Tensor | None,
        alpha: Tensor,
        inputs: dict[int, Float[Tensor, "e dim n"]],
        below: dict[int, "_Level"],
        lowest: int,
    ) -> None:
        shape = network.levels[level]
        members, _, rows = inputs[0].shape
        self.lift, self.alpha, self.twice_alpha = lift, alpha[:, None], (2 * alpha)[:, None, None]
        self.w, self.k = network.weights(flat, level), network.distilled(flat, level)
        is_tied = level in network.tied
        self.by_form = not is_tied and shape.i <= STEPPED_FORM_ADVANTAGE * network.width
        # W h and, where a level above reads it, K h below it; M h instead of W h where the form is used.
        wide = shape.k if is_tied else shape.i if self.by_form else network.width
        self.y = member_arrays(flat, wide + (shape.k if lift is not None and not is_tied else 0), rows)
        self.sum = flat.new_empty(members, rows)
        self.wide, self.narrow = self.y[:, :wide], self.y if is_tied else self.y[:, wide:]
        self.scratch = member_arrays(flat, wide, rows)
        in_use = network.distilled if is_tied else network.stacked if lift is not None else network.weights
        self.z = in_use(flat, level)
        self.gradient = None if gradient is None else in_use(gradient, level)
        if self.by_form:
            self.form = member_arrays(flat, shape.i, shape.i)
            if gradient is not None:
                self.gradient = network.weights(gradient, level)
                self.gradient_k = network.distilled(gradient, level)
        # h: the input or its square as it is where nothing else is read, else blocks that are filled.
        self.is_filled = len(shape.sources) > 1 or shape.sources[0] >= LOWEST_LEVEL
        self.h = member_arrays(flat, shape.i, rows) if self.is_filled else inputs[shape.sources[0]]
        blocks = [(j, self.h[:, shape.columns(j)]) for j in shape.sources] if self.is_filled else []
        self.copied = [(inputs[j], block) for j, block in blocks if j < LOWEST_LEVEL]
        self.squared = [(below[j], block) for j, block in blocks if j >= LOWEST_LEVEL]
        self.sends = [
            (below[j], self.z[..., shape.columns(j)].mT, self.k[..., shape.columns(j)].mT, shape.columns(j))
            for j in sorted(below)
            if j >= lowest
        ]
        # A view costs as much to make as a small operation: those that a step needs are made here.
        self.ht, self.wt = self.h.mT, self.w.mT
        self.bound: float | None = None
        if lift is not None:
            self.twice_lift = (2 * lift).mT.contiguous()
            self.pre, self.above = (member_arrays(flat, shape.q, rows) for _ in range(2))
            self.reach = reach_of(lift)

    def forward(self, output: Float[Tensor, "e n"], truncation: float | None) -> None:
        """Add α_ℓ Sum(F_ℓ) to the output, and make R S where a level above reads it."""
        for given, block in self.copied:
            block.copy_(given)
        for level, block in self.squared:
            if level.bound is None:
                torch.mul(level.pre, level.pre, out=block)
            else:
                block.copy_(truncated_square(level.pre, level.bound))
        if self.by_form:
            torch.bmm(self.wt, self.w, out=self.form)
            torch.bmm(self.form, self.h, out=self.wide)
            torch.mul(self.wide, self.h, out=self.scratch)
            if self.lift is not None:
                torch.bmm(self.k, self.h, out=self.narrow)
        else:
            torch.bmm(self.z, self.h, out=self.y)
            torch.mul(self.wide, self.wide, out=self.scratch)
        output.addcmul_(torch.sum(self.scratch, 1, out=self.sum), self.alpha)
        if self.lift is not None:
            torch.bmm(self.lift, self.narrow, out=self.pre)
            self.bound = bound_in_reach(self.pre, truncation, self.y, self.reach)

    def backward(self, slope: Float[Tensor, "e n"]) -> None:
        """Turn W h and K h into what reaches them; pass it down, and add the gradient of W and K."""
        weight = self.twice_alpha * slope[:, None]
        self.wide.mul_(weight)
        if self.lift is not None:
            self._through_lift()
        for below, z, k, columns in self.sends:
            self._send(below.above, z, k, columns)
        if self.gradient is None:
            return
        if self.by_form:
            torch.mul(self.h, weight, out=self.scratch)
            torch.bmm(self.scratch, self.ht, out=self.form)
            self.gradient.baddbmm_(self.w, self.form)
            if self.lift is not None:
                self.gradient_k.baddbmm_(self.narrow, self.ht)
        else:
            self.gradient.baddbmm_(self.y, self.ht)

    def _through_lift(self) -> None:
        """What reaches S, from what reaches σ̃(R S)."""
        if self.bound is None:
            self.above.mul_(self.pre)
        else:
            self.above.mul_(truncated_square_derivative(self.pre, self.bound)).mul_(0.5)
        if self.narrow is self.y:
            self.y.baddbmm_(self.twice_lift, self.above)
        else:
            torch.bmm(self.twice_lift, self.above, out=self.narrow)

    def _send(self, above: Tensor, z: Tensor, k: Tensor, columns: slice) -> None:
        """What reaches σ̃(R S) of the level below, which no other level reads."""
        if not self.by_form:
            torch.bmm(z, self.y, out=above)
        elif self.lift is None:
            above.copy_(self.wide[:, columns])
        else:
            torch.baddbmm(self.wide[:, columns], k, self.narrow, out=above)
