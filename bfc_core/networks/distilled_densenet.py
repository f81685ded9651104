"""The learner network of arXiv:2001.04413 §4: wide W, narrow distilled K, frozen random R.

S_0 = x, S_1 = x² − mean; with h_ℓ the concatenation over j ∈ J_ℓ of σ̃(R_j S_j) (j ≥ 2) and S_j (j ≤ 1):

    S_ℓ = K_ℓ h_ℓ ∈ R^{k_ℓ},   F_ℓ = (W_ℓ h_ℓ)² ∈ R^m,   F = Σ_ℓ α_ℓ Sum(F_ℓ).

Since Sum(F_ℓ) = h_ℓᵀ M_ℓ h_ℓ with M_ℓ = W_ℓᵀW_ℓ, values and gradients are computed from the small M_ℓ
wherever h_ℓ is not much longer than m: that is the same function with fewer operations.

A level may be *tied*: its K_ℓ then also stands for W_ℓ, so F_ℓ = S_ℓ². That is the limit λ₃, λ₄, λ₅ → ∞ of the
regulariser that ties K_ℓᵀK_ℓ to W_ℓᵀW_ℓ (docs/decisions/0010).

Letters: e members, n rows, d input dimension, i length of h_ℓ, m rows of W, k rows of K, q rows of R.
"""

import copy
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bfc_core.flops.networks import FORM_ADVANTAGE
from bfc_core.networks.truncation import (
    bound_in_reach,
    reach_of,
    truncated_square,
)
from bfc_core.specs import LOWEST_LEVEL, Hierarchy


@dataclass(frozen=True)
class LevelShape:
    """Sizes of one level: its sources with their lengths inside h_ℓ, and its rows."""

    sources: tuple[int, ...]
    lengths: tuple[int, ...]
    k: int
    q: int

    @property
    def i(self) -> int:
        """Length of h_ℓ."""
        return sum(self.lengths)

    def columns(self, source: int) -> slice:
        """Where a source stands inside h_ℓ."""
        position = self.sources.index(source)
        start = sum(self.lengths[:position])
        return slice(start, start + self.lengths[position])


@dataclass
class Pass:
    """What the forward pass leaves by level; ``bound`` is that of σ̃ on ``pre``."""

    pre: dict[int, Tensor] = field(default_factory=dict)
    bound: dict[int, float | None] = field(default_factory=dict)
    output: Tensor = field(default_factory=lambda: torch.empty(0))


class DistilledDenseNet:
    """Shapes, values and closed-form gradients; parameters are one flat row a member, given as argument."""

    def __init__(self, hierarchy: Hierarchy, dim: int, width: int, truncation: float | None) -> None:
        self.hierarchy = hierarchy
        self.dim = dim
        self.width = width
        self.truncation = truncation
        self.tied: frozenset[int] = frozenset()
        self.levels: dict[int, LevelShape] = {}
        for level, k in hierarchy.widths.items():
            sources = hierarchy.connections[level]
            lengths = tuple(dim if j < LOWEST_LEVEL else self.levels[j].q for j in sources)
            self.levels[level] = LevelShape(sources, lengths, k, q=k * (k + 1) // 2)
        self._slices: dict[tuple[str, int], slice] = {}
        start = 0
        for level, shape in self.levels.items():
            for name, rows in (("W", width), ("K", shape.k)):
                self._slices[name, level] = slice(start, start + rows * shape.i)
                start += rows * shape.i
        self.parameter_count = start

    def with_tied(self, levels: tuple[int, ...]) -> "DistilledDenseNet":
        """The same layout of parameters with K_ℓ standing for W_ℓ at these levels."""
        tied = copy.copy(self)
        tied.tied = frozenset(levels)
        return tied

    def untruncated(self) -> "DistilledDenseNet":
        """The same with σ = z² everywhere, as the target has it."""
        plain = copy.copy(self)
        plain.truncation = None
        return plain

    # ---- parameters ------------------------------------------------------------------------------

    def weights(self, flat: Float[Tensor, "e p"], level: int) -> Float[Tensor, "e m i"]:
        """W_ℓ of every member, a view of ``flat``; K_ℓ where the level is tied."""
        if level in self.tied:
            return self.distilled(flat, level)
        return flat[:, self._slices["W", level]].view(-1, self.width, self.levels[level].i)

    def distilled(self, flat: Float[Tensor, "e p"], level: int) -> Float[Tensor, "e k i"]:
        """K_ℓ of every member, a view of ``flat``."""
        shape = self.levels[level]
        return flat[:, self._slices["K", level]].view(-1, shape.k, shape.i)

    def stacked(self, flat: Float[Tensor, "e p"], level: int) -> Float[Tensor, "e r i"]:
        """The rows of W_ℓ and, below them, those of K_ℓ: a view of ``flat``, where they are neighbours."""
        start, stop = self._slices["W", level].start, self._slices["K", level].stop
        return flat[:, start:stop].view(len(flat), -1, self.levels[level].i)

    def places(self, levels: tuple[int, ...]) -> Int[Tensor, " j"]:
        """Where the entries of K_ℓ stand in a flat row, level by level."""
        return torch.cat([torch.arange(self.parameter_count)[self._slices["K", level]] for level in levels])

    def draw_weights(self, generator: torch.Generator, scale: float) -> Float[Tensor, " p"]:
        """W and K of one member, iid N(0, scale²), float64."""
        return scale * torch.randn(self.parameter_count, generator=generator, dtype=torch.float64)

    def draw_lifts(self, generator: torch.Generator) -> dict[int, Float[Tensor, "q k"]]:
        """The frozen R_ℓ of one member, iid N(0, 1/k_ℓ²), float64."""
        return {
            level: torch.randn(shape.q, shape.k, generator=generator, dtype=torch.float64) / shape.k
            for level, shape in self.levels.items()
        }

    # ---- values ----------------------------------------------------------------------------------

    def forward(
        self,
        flat: Float[Tensor, "e p"],
        lifts: dict[int, Float[Tensor, "e q k"]],
        alphas: dict[int, Float[Tensor, " e"]],
        x: Float[Tensor, "e n dim"],
        active: tuple[int, ...],
    ) -> Pass:
        """The output of the active levels, with what it was made of."""
        passed = Pass(output=x.new_zeros(x.shape[:2]))
        square = x.square() - self.hierarchy.level_one_mean
        for level in active:
            shape = self.levels[level]
            h = self._reads(shape, passed, x, square)
            w = self.weights(flat, level)
            if self._by_form(level):
                y = h @ (w.mT @ w)
                value = torch.linalg.vecdot(y, h)
            else:
                y = h @ w.mT
                value = torch.linalg.vecdot(y, y)
            passed.output = torch.addcmul(passed.output, value, alphas[level][:, None])
            if any(level in self.levels[above].sources for above in active if above > level):
                feature = y if level in self.tied else h @ self.distilled(flat, level).mT
                self._lift(passed, level, feature, lifts[level])
        return passed

    def features(
        self,
        flat: Float[Tensor, "e p"],
        lifts: dict[int, Float[Tensor, "e q k"]],
        x: Float[Tensor, "e n dim"],
        levels: tuple[int, ...],
    ) -> dict[int, Float[Tensor, "e n k"]]:
        """S_ℓ of the named levels, which must be closed downwards."""
        passed = Pass()
        square = x.square() - self.hierarchy.level_one_mean
        features: dict[int, Tensor] = {}
        for level in levels:
            h = self._reads(self.levels[level], passed, x, square)
            features[level] = h @ self.distilled(flat, level).mT
            if level != levels[-1]:
                self._lift(passed, level, features[level], lifts[level])
        return features

    # ---- parts -----------------------------------------------------------------------------------

    def _by_form(self, level: int) -> bool:
        return level not in self.tied and self.levels[level].i <= FORM_ADVANTAGE * self.width

    def _reads(self, shape: LevelShape, passed: Pass, x: Tensor, square: Tensor) -> Tensor:
        """h of a level. Lifted features are squared straight into their columns: h is the largest array."""
        if shape.sources in {(0,), (1,)}:
            return square if shape.sources == (1,) else x
        h = x.new_empty(*x.shape[:-1], shape.i)
        for j in shape.sources:
            columns = h[..., shape.columns(j)]
            if j < LOWEST_LEVEL:
                columns.copy_(square if j == 1 else x)
            elif passed.bound[j] is None and not passed.pre[j].requires_grad:
                torch.mul(passed.pre[j], passed.pre[j], out=columns)
            else:
                columns.copy_(truncated_square(passed.pre[j], passed.bound[j]))
        return h

    def _lift(self, passed: Pass, level: int, feature: Tensor, lift: Tensor) -> None:
        passed.pre[level] = feature @ lift.mT
        reach = None if self.truncation is None else reach_of(lift)
        passed.bound[level] = bound_in_reach(passed.pre[level], self.truncation, feature, reach)
