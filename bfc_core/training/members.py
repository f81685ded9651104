"""The rows of a batched program: parameters, frozen parts and data of every member of a pack."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bfc_core.seeding import generator_for

BATCH_BLOCK = 64
"""Steps whose batches are drawn at once; block b of a seed can be drawn without the ones before it."""

FETCHED_BYTES = 4 * 2**20
"""Samples that are fetched at once: few enough to be in the cache still when they are used."""


@dataclass(frozen=True)
class Batch:
    """Samples of every member, with their labels and, in classification, x₀; of one step or of several, (e, s, b)."""

    x: Float[Tensor, "e *s b dim"]
    y: Float[Tensor, "e *s b"]
    offset: Float[Tensor, "e *s b"] | None = None

    def predicted(self, output: Float[Tensor, "e b"]) -> Float[Tensor, "e b"]:
        """What is compared with the labels: F(x), or x₀ + F(x)."""
        return output if self.offset is None else output + self.offset

    def steps(self) -> "Iterator[Batch]":
        """One step after another."""
        offsets = repeat(None) if self.offset is None else self.offset.unbind(1)
        return map(Batch, self.x.unbind(1), self.y.unbind(1), offsets)


@dataclass(frozen=True)
class TrainingData:
    """The training sets of a pack, one after another; members of one seed read the same rows.

    Letters: r rows of all sets.
    """

    x: Float[Tensor, "r dim"]
    y: Float[Tensor, " r"]
    offset: Float[Tensor, " r"] | None = None
    """x₀ of classification, which the prediction adds to F(x)."""

    def batch(self, rows: Int[Tensor, "e b"]) -> Batch:
        """Samples and labels of these rows."""
        return self._fetched(rows)

    def batches(self, rows: Int[Tensor, "s e b"]) -> Iterator[Batch]:
        """A batch a step, each valid until the next is asked for.

        Fetched member by member, so that a set stays in the cache, for as many steps as :data:`FETCHED_BYTES` hold.
        """
        _, members, size = rows.shape
        dim = self.x.shape[1]
        steps = min(len(rows), max(1, FETCHED_BYTES // (members * size * dim * self.x.element_size())))
        kept = self.x.new_empty(members * steps * size, dim)
        for some in torch.split(rows, steps):
            yield from self._fetched(some.transpose(0, 1), kept[: some.numel()]).steps()

    def _fetched(self, rows: Int[Tensor, "e *s b"], into: Float[Tensor, "c dim"] | None = None) -> Batch:
        """``index_select`` copies whole rows, ``x[rows]`` numbers; samples go ``into`` an array where one is given."""
        flat = rows.flatten()
        x = torch.index_select(self.x, 0, flat, out=into).view(*rows.shape, -1)
        y = self.y.index_select(0, flat).view(rows.shape)
        offset = None if self.offset is None else self.offset.index_select(0, flat).view(rows.shape)
        return Batch(x, y, offset)


@dataclass
class Members:
    """Distinct networks that train together. All tensors lead with the member axis e.

    Letters: e members, p parameters, q × k the frozen lift of a level.
    """

    flat: Float[Tensor, "e p"]
    lifts: dict[int, Float[Tensor, "e q k"]]
    alphas: dict[int, Float[Tensor, " e"]]
    movable: Float[Tensor, "e p"]
    """1 where a parameter may move: rows of K beyond a level's distilled rank may not."""
    seeds: tuple[int, ...]
    first_rows: tuple[int, ...]
    rows: tuple[int, ...]
    held_out: tuple[int, ...] = ()
    """Rows after each member's own that no batch contains, for validation."""

    def validation_rows(self, count: int) -> Int[Tensor, "e v"]:
        """``count`` held-out rows of every member, from the first on and round again where there are fewer."""
        firsts = [first + rows for first, rows in zip(self.first_rows, self.rows, strict=True)]
        numbers = [
            first + torch.arange(count) % held for first, held in zip(firsts, self.held_out, strict=True)
        ]
        return torch.stack(numbers).to(self.flat.device)

    def batches(self, block: int, batch_size: int) -> Int[Tensor, "s e b"]:
        """Row numbers of ``BATCH_BLOCK`` steps, drawn with replacement from each member's own stream."""
        drawn: dict[tuple[int, int, int], Tensor] = {}
        for key in zip(self.seeds, self.first_rows, self.rows, strict=True):
            if key not in drawn:
                seed, first, rows = key
                generator = generator_for(seed, "batches", block)
                drawn[key] = torch.randint(rows, (BATCH_BLOCK, batch_size), generator=generator).add_(first)
        keys = zip(self.seeds, self.first_rows, self.rows, strict=True)
        return torch.stack([drawn[key] for key in keys], 1).to(self.flat.device)
