"""∂Reg/∂(W, K) of a pack on one step after another, in arrays and views that are made once.

The formulas are those of :mod:`bfc_core.training.regularizer`. A step has a hundred operations of a few microseconds,
so it does not make the same views anew in each; and since every entry of a gradient that moves has a part in Reg, this
part is written first, over what was there, and nothing is set to zero before.

Letters: e members, p parameters, r rows of W and K, i length of h_ℓ, b columns of one source.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bfc_core.networks.distilled_densenet import DistilledDenseNet
from bfc_core.networks.member_arrays import member_arrays


class _Part(Protocol):
    def write(self) -> None: ...


class RegularizerGradient:
    """Writes the gradient with respect to the trainable levels, for what ``flat`` is when it is asked; else zeros.

    Args:
        network: shapes, and which levels are tied.
        flat: parameters; read where they stand at every call.
        gradient: what is written.
        ties: α_ℓ² Λ̄ of the levels that are trained, distilled and not tied.
        norm_weight: λ₆.
        trainable: the levels whose gradient is wanted.
    """

    def __init__(
        self,
        network: DistilledDenseNet,
        flat: Float[Tensor, "e p"],
        gradient: Float[Tensor, "e p"],
        ties: dict[int, Float[Tensor, "e i i"]],
        norm_weight: float,
        trainable: tuple[int, ...],
    ) -> None:
        self._parts: list[_Part] = []
        written = torch.zeros(1, gradient.shape[1], dtype=torch.bool)
        for level in trainable:
            own = network.stacked if level in ties else network.weights
            own(written, level).fill_(True)
            if level not in ties:
                w, into = network.weights(flat, level), network.weights(gradient, level)
                self._parts.append(_Norm(w, into, 2 * norm_weight))
                continue
            z = network.stacked(flat, level)
            by_rows = z.shape[2] > z.shape[1]
            kind = _ByRows if by_rows else _ByForm
            self._parts.append(kind(network, level, flat, gradient, ties[level], norm_weight))
        self._others = [gradient[:, start:stop] for start, stop in _runs(~written[0])]

    def write(self) -> None:
        """Over all of the gradient, for the parameters of now."""
        for other in self._others:
            other.zero_()
        for part in self._parts:
            part.write()


def _runs(chosen: Bool[Tensor, " p"]) -> list[tuple[int, int]]:
    """Where True begins and ends, run by run."""
    padded = torch.nn.functional.pad(chosen.to(torch.int8), (1, 1))
    edges = padded.diff().nonzero().flatten().tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


@dataclass(frozen=True)
class _Norm:
    """A level without ties."""

    w: Float[Tensor, "e m i"]
    into: Float[Tensor, "e m i"]
    factor: float

    def write(self) -> None:
        torch.mul(self.w, self.factor, out=self.into)


class _ByForm:
    """Through Λ̄ ⊙ D, which is i × i."""

    def __init__(
        self,
        network: DistilledDenseNet,
        level: int,
        flat: Tensor,
        gradient: Tensor,
        tie: Float[Tensor, "e i i"],
        norm_weight: float,
    ) -> None:
        self._z, self._into = network.stacked(flat, level), network.stacked(gradient, level)
        self._w, self._k = network.weights(flat, level), network.distilled(flat, level)
        self._wt, self._kt = self._w.mT, self._k.mT
        self._into_w, self._into_k = network.weights(gradient, level), network.distilled(gradient, level)
        self._four_tie, self._factor = 4 * tie, 2 * norm_weight
        self._gap, self._form = (member_arrays(flat, *tie.shape[1:]) for _ in range(2))

    def write(self) -> None:
        torch.bmm(self._kt, self._k, out=self._gap)
        torch.bmm(self._wt, self._w, out=self._form)
        self._gap.sub_(self._form).mul_(self._four_tie)
        torch.mul(self._z, self._factor, out=self._into)
        self._into_w.baddbmm_(self._w, self._gap, alpha=-1)
        self._into_k.baddbmm_(self._k, self._gap)


class _ByRows:
    """Through the grams of rows, block of columns by block; λ₆ is a diagonal beside them."""

    def __init__(
        self,
        network: DistilledDenseNet,
        level: int,
        flat: Tensor,
        gradient: Tensor,
        tie: Float[Tensor, "e i i"],
        norm_weight: float,
    ) -> None:
        z, into = network.stacked(flat, level), network.stacked(gradient, level)
        shape = network.levels[level]
        blocks = [shape.columns(source) for source in shape.sources]
        sign = tie.new_ones(z.shape[1])
        sign[: network.width] = -1.0
        signs = 4 * sign[:, None] * sign
        self._norm = 2 * norm_weight * torch.eye(len(sign)).to(tie)
        self._columns = [z[..., block] for block in blocks]
        self._rows = [columns.mT for columns in self._columns]
        self._grams = [member_arrays(flat, len(sign), len(sign)) for _ in blocks]
        self._mixed = member_arrays(flat, len(sign), len(sign))
        self._mixing = [
            [tie[:, other.start, block.start][:, None, None] * signs for other in blocks] for block in blocks
        ]
        self._into = [into[..., block] for block in blocks]

    def write(self) -> None:
        for columns, rows, gram in zip(self._columns, self._rows, self._grams, strict=True):
            torch.bmm(columns, rows, out=gram)
        for columns, factors, into in zip(self._columns, self._mixing, self._into, strict=True):
            torch.addcmul(self._norm, factors[0], self._grams[0], out=self._mixed)
            for factor, gram in zip(factors[1:], self._grams[1:], strict=True):
                self._mixed.addcmul_(factor, gram)
            torch.bmm(self._mixed, columns, out=into)
