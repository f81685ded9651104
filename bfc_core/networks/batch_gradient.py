"""Values and gradients of a pack on one batch after another, in arrays that are made once.

The formulas are those of :mod:`bfc_core.networks.distilled_densenet`: for the mean over N rows, with
G = Σ_n slope · h hᵀ / N, ∂/∂W_ℓ = 2 α_ℓ W_ℓ G and ∂/∂h_ℓ = 2 α_ℓ slope · M_ℓ h_ℓ / N. What differs is where numbers
stand. Rows of the batch are the *last* axis: then h_ℓ is its sources one below the other, each a block of its own, and
W h and K h are one product with the rows of W and K, which are neighbours in a flat row. A gradient overwrites the
value that it is made of.

Letters: e members, p parameters, n rows of the batch, i length of h_ℓ, m rows of W, r rows of W and K in use,
q length of R S.
"""

from typing import NamedTuple

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
    """∂/∂(W, K) of the mean loss over a batch for the trainable levels, added to an array time and again.

    Args:
        network: shapes, and which levels are tied.
        flat: parameters; read where they stand at every call.
        gradient: what is added to.
        lifts: the frozen R_ℓ.
        alphas: α_ℓ, as they are now.
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
        self._minus_mean = flat.new_full((), -network.hierarchy.level_one_mean)
        self._truncation = network.truncation
        lowest = max(LOWEST_LEVEL, min(trainable))
        lengths = {level: _terms(network, level) for level in active}
        # Sum(F_ℓ) is a sum over terms: those of all levels stand one below the other, and one product adds them up.
        self._terms = member_arrays(flat, sum(lengths.values()), rows)
        terms = dict(zip(active, torch.split(self._terms, list(lengths.values()), 1), strict=True))
        self._term_alphas = torch.cat([alphas[a][:, None].expand(-1, lengths[a]) for a in active], 1)[:, None]
        self._output = member_arrays(flat, 1, rows)
        self._twice_alphas = torch.stack([2 / rows * alphas[level] for level in active], 1)[:, :, None]
        self._weights = member_arrays(flat, len(active), rows)
        weights = dict(zip(active, torch.split(self._weights, 1, 1), strict=True))
        self._levels: dict[int, _Level] = {}
        # Where x and its square stand: in the first h that reads them, or alone.
        inputs: dict[int, Tensor] = {}
        for level in active:
            feeds = any(level in network.levels[above].sources for above in active if above > level)
            self._levels[level] = _Level(
                network,
                level,
                flat,
                gradient if level in trainable else None,
                lifts[level] if feeds else None,
                weights[level],
                terms[level],
                inputs,
                {j: self._levels[j] for j in network.levels[level].sources if j >= LOWEST_LEVEL},
                lowest,
            )
        self._reached = [self._levels[level] for level in reversed(active) if level >= lowest]
        self._x = inputs[0] if 0 in inputs else member_arrays(flat, network.dim, rows)
        self._square = inputs.get(1)

    def forward(self, x: Float[Tensor, "e n dim"]) -> Float[Tensor, "e n"]:
        """F(x) of every member, in an array that the next call uses again."""
        self._x.copy_(x.mT)
        if self._square is not None:
            torch.addcmul(self._minus_mean, self._x, self._x, out=self._square)
        for level in self._levels.values():
            level.forward(self._truncation)
        torch.bmm(self._term_alphas, self._terms, out=self._output)
        return self._output[:, 0]

    def backward(self, slopes: Float[Tensor, "e n"]) -> None:
        """Add to the gradient, where ``slopes`` are ∂loss/∂F row by row, and use up what the forward pass left."""
        torch.mul(self._twice_alphas, slopes[:, None], out=self._weights)
        for level in self._reached:
            level.backward()


def _is_by_form(network: DistilledDenseNet, level: int) -> bool:
    return level not in network.tied and network.levels[level].i <= STEPPED_FORM_ADVANTAGE * network.width


def _terms(network: DistilledDenseNet, level: int) -> int:
    """Of how many terms Sum(F_ℓ) is the sum: h ⊙ M h where the form is used, else (W h)²."""
    shape = network.levels[level]
    if level in network.tied:
        return shape.k
    return shape.i if _is_by_form(network, level) else network.width


class _Level:
    """One level of every member: views of its parameters, and its arrays.

    ``lift`` is None where no active level reads this one. Gradients go down to the levels from ``lowest``. ``weight``
    holds 2 α_ℓ slope when it is asked for them, ``terms`` take those of Sum(F_ℓ). ``inputs`` says where x and its
    square stand; where they have no place yet, this level gives them one.
    """

    above: Tensor
    """What reaches R S, where a level above reads it."""

    def __init__(
        self,
        network: DistilledDenseNet,
        level: int,
        flat: Tensor,
        gradient: Tensor | None,
        lift: Tensor | None,
        weight: Float[Tensor, "e 1 n"],
        terms: Float[Tensor, "e t n"],
        inputs: dict[int, Float[Tensor, "e dim n"]],
        below: dict[int, "_Level"],
        lowest: int,
    ) -> None:
        shape = network.levels[level]
        self.lift, self.weight, self.terms = lift, weight, terms
        self.w, self.k = network.weights(flat, level), network.distilled(flat, level)
        is_tied, self.by_form = level in network.tied, _is_by_form(network, level)
        _, wide, rows = terms.shape
        # W h and, where a level above reads it, K h below it from the same product; where the form is used, M h alone.
        is_stacked = not (is_tied or self.by_form) and lift is not None
        self.y = member_arrays(flat, wide + (shape.k if is_stacked else 0), rows)
        self.wide, self.narrow = self.y[:, :wide], self.y[:, wide:] if is_stacked else self.y
        if self.by_form and lift is not None:
            self.narrow = member_arrays(flat, shape.k, rows)
        in_use = network.stacked if is_stacked else network.weights
        self.z = in_use(flat, level)
        self.gradient = None if gradient is None else in_use(gradient, level)
        self.gradient_k = None if gradient is None else network.distilled(gradient, level)
        if self.by_form:
            self.form = member_arrays(flat, shape.i, shape.i)
        # h: the input or its square as it is where nothing else is read, else blocks that are filled.
        is_filled = len(shape.sources) > 1 or shape.sources[0] >= LOWEST_LEVEL
        if is_filled or shape.sources[0] not in inputs:
            self.h = member_arrays(flat, shape.i, rows)
        else:
            self.h = inputs[shape.sources[0]]
        blocks = [(j, self.h[:, shape.columns(j)]) for j in shape.sources]
        self.copied = [(inputs[j], block) for j, block in blocks if j in inputs and is_filled]
        self.squared = [(below[j], block) for j, block in blocks if j >= LOWEST_LEVEL]
        for j, block in blocks:
            if j < LOWEST_LEVEL:
                inputs.setdefault(j, block)
        self.sends = [
            _Sending(
                below[j].above,
                self.z[..., shape.columns(j)].mT,
                self.k[..., shape.columns(j)].mT,
                self.wide[:, shape.columns(j)],
            )
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

    def forward(self, truncation: float | None) -> None:
        """Make the terms of Sum(F_ℓ), and R S where a level above reads it."""
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
            torch.mul(self.wide, self.h, out=self.terms)
            if self.lift is not None:
                torch.bmm(self.k, self.h, out=self.narrow)
        else:
            torch.bmm(self.z, self.h, out=self.y)
            torch.mul(self.wide, self.wide, out=self.terms)
        if self.lift is not None:
            torch.bmm(self.lift, self.narrow, out=self.pre)
            self.bound = bound_in_reach(self.pre, truncation, self.narrow, self.reach)

    def backward(self) -> None:
        """Turn W h and K h into what reaches them; pass it down, and add the gradient of W and K."""
        if not self.by_form:
            self.wide.mul_(self.weight)
        if self.lift is not None:
            self._through_lift()
        for sending in self.sends:
            if not self.by_form:
                torch.bmm(sending.z, self.y, out=sending.above)
                continue
            # Of M h only these rows are wanted.
            torch.mul(sending.wide, self.weight, out=sending.above)
            if self.lift is not None:
                sending.above.baddbmm_(sending.k, self.narrow)
        if self.gradient is None or self.gradient_k is None:
            return
        if self.by_form:
            torch.mul(self.h, self.weight, out=self.terms)
            torch.bmm(self.terms, self.ht, out=self.form)
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


class _Sending(NamedTuple):
    """What a level sends to one below, which no other level reads: where to, the rows of W and K, and of M h."""

    above: Tensor
    z: Tensor
    k: Tensor
    wide: Tensor
