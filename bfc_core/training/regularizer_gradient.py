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
    """Through Λ̄ ⊙ D, which is i × i: with s = −1 on the rows of W, D = Zᵀ diag(s) Z."""

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
        self._zt, self._signs = self._z.mT, _signs(self._z, network.width)[:, None]
        self._four_tie, self._factor = 4 * tie, 2 * norm_weight
        self._signed, self._gap = member_arrays(flat, *self._z.shape[1:]), member_arrays(flat, *tie.shape[1:])

    def write(self) -> None:
        torch.mul(self._z, self._signs, out=self._signed)
        torch.bmm(self._zt, self._signed, out=self._gap)
        self._gap.mul_(self._four_tie)
        torch.baddbmm(self._z, self._signed, self._gap, beta=self._factor, out=self._into)


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
        sign = _signs(z, network.width)
        signs = 4 * sign[:, None] * sign
        self._norm = 2 * norm_weight * torch.eye(len(sign)).to(tie)
        self._columns = [z[..., block] for block in blocks]
        self._rows = [columns.mT for columns in self._columns]
        self._grams = [member_arrays(flat, len(sign), len(sign)) for _ in blocks]
        # For every block of columns what mixes them, from the grams of all blocks: (e, blocks, r, r).
        self._mixed = member_arrays(flat, len(blocks), len(sign), len(sign))
        starts = [block.start for block in blocks]
        self._factors = [
            (gram[:, None], tie[:, block.start, starts][:, :, None, None] * signs)
            for gram, block in zip(self._grams, blocks, strict=True)
        ]
        self._mixing = list(self._mixed.unbind(1))
        self._into = [into[..., block] for block in blocks]

    def write(self) -> None:
        for columns, rows, gram in zip(self._columns, self._rows, self._grams, strict=True):
            torch.bmm(columns, rows, out=gram)
        mixed = self._norm
        for gram, factor in self._factors:
            mixed = torch.addcmul(mixed, factor, gram, out=self._mixed)
        for columns, mixing, into in zip(self._columns, self._mixing, self._into, strict=True):
            torch.bmm(mixing, columns, out=into)


def _signs(z: Float[Tensor, "e r i"], width: int) -> Float[Tensor, " r"]:
    """−1 on the rows of W, 1 on those of K."""
    signs = z.new_ones(z.shape[1])
    signs[:width] = -1.0
    return signs
