"""What refinements ask for, computed for all members that ask at a time.

Members lead every array. Their rows come in chunks of one size, a member with fewer of them leaves early, and every sum
over rows goes chunk by chunk: so a member's numbers are those that it has alone.

Letters: e members, p parameters, c rows of a chunk, b chunks of several members, i length of h_ℓ, k rows of K_ℓ.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.flops.networks import whole_lines
from bfc_core.networks.member_arrays import member_arrays, repeated_arrays
from bfc_core.networks.tied_pass import TiedPass
from bfc_core.training.refinement import CHUNK, Equations, Move, NormalEquations, Step, Value

BLOCK_BYTES = 2**22
"""What the Jacobian of the rows that are worked on at a time may fill, where it is more than one chunk a member."""


def answer_values(asked: Sequence[Value]) -> None:
    """The data term of every question."""
    asked = sorted(asked, key=_fewest_last)
    together = _Together(asked)
    values = [0.0] * len(asked)
    for block in together.blocks():
        predicted = block.passed.output.add_(block.offset)
        losses = together.objective.row_values(predicted, block.y).mul_(block.weight)
        for member, sums in enumerate(losses.sum(1).view(block.members, -1).tolist()):
            for chunk in sums:
                values[member] += chunk
    for question, value in zip(asked, values, strict=True):
        question.answer = value


def answer_equations(asked: Sequence[Equations]) -> None:
    """The normal equations of every question."""
    asked = sorted(asked, key=_fewest_last)
    normal, gradient = _Together(asked).sums()
    diagonal = normal.diagonal(dim1=1, dim2=2)
    felt = (diagonal > 0).logical_and_(torch.stack([question.of.free for question in asked]))
    if not bool(felt.all()):
        normal.mul_(felt[:, :, None] & felt[:, None])
        diagonal.add_(~felt)
        gradient.mul_(felt)
    sizes = (gradient.square() / diagonal).sum(1).tolist()
    for question, *found in zip(asked, normal, gradient, sizes, strict=True):
        question.answer = NormalEquations(*found)


def answer_steps(asked: Sequence[Step]) -> None:
    """The damped step of every question."""
    places = asked[0].of.places
    p, filled = len(places), whole_lines(len(places))
    # Filled up with the identity: a factorisation begins every member's matrix where the last one ends.
    damped = asked[0].flat.new_zeros(len(asked), filled, filled)
    gradient = damped.new_zeros(len(asked), filled)
    torch.stack([question.equations.normal for question in asked], out=damped[:, :p, :p])
    torch.stack([question.equations.gradient for question in asked], out=gradient[:, :p])
    diagonal = damped.diagonal(dim1=1, dim2=2)
    diagonal.addcmul_(diagonal, gradient.new_tensor([question.damping for question in asked])[:, None])
    diagonal[:, p:] = 1.0
    factors, failed = torch.linalg.cholesky_ex(damped)
    steps = torch.cholesky_solve(gradient[..., None], factors)
    promised = torch.bmm(gradient[:, None], steps).flatten().tolist()
    moved = torch.stack([question.flat for question in asked])
    moved[:, places] -= steps[:, :p, 0]
    for question, is_failed, flat, share in zip(asked, failed.tolist(), moved, promised, strict=True):
        question.answer = None if is_failed else Move(flat, share)


def _fewest_last(question: Value | Equations) -> int:
    """The key that sorts members with many rows before those with few."""
    return -question.of.chunks


@dataclass(frozen=True)
class _Block:
    """As many chunks of each of the first so many members; those of a member follow each other."""

    members: int
    passed: TiedPass
    y: Float[Tensor, "b c"]
    offset: Float[Tensor, "b c"]
    weight: Float[Tensor, "b c"]


class _Together:
    """Questions that are alike; those with the most rows come first."""

    def __init__(self, asked: Sequence[Value] | Sequence[Equations]) -> None:
        each = [question.of for question in asked]
        self._members = each
        self._network, self.objective, self._trainable = each[0].network, each[0].objective, each[0].trainable
        self._parameters = len(each[0].places)
        flats = torch.stack([question.flat for question in asked])
        active, levels = each[0].active, self._network.levels
        read = [level for level in active if any(level in levels[above].sources for above in active)]
        self._weights = {level: self._network.distilled(flats, level) for level in active}
        self._lifts = {level: torch.stack([of.lifts[level] for of in each]) for level in read}
        self._alphas = {level: torch.stack([of.alphas[level] for of in each]) for level in active}

    def blocks(self) -> Iterator[_Block]:
        """All rows of all members, as many chunks at a time as the block's bytes allow."""
        chunks = [of.chunks for of in self._members]
        begin = 0
        while begin < chunks[0]:
            members = sum(own > begin for own in chunks)
            most = max(1, BLOCK_BYTES // (8 * CHUNK * members * self._parameters))
            end = min(begin + most, chunks[members - 1])
            stacked = torch.cat([of.columns[begin:end] for of in self._members[:members]])
            yield _Block(members, self._passed(members, stacked[:, :-3]), *stacked[:, -3:].unbind(1))
            begin = end

    def _passed(self, members: int, x: Float[Tensor, "b dim c"]) -> TiedPass:
        def of_chunks(each: dict[int, Tensor]) -> dict[int, Tensor]:
            """What a member has is every chunk's of it, each at the same place of a cache line."""
            return {level: repeated_arrays(own[:members], len(x) // members) for level, own in each.items()}

        mean = self._network.hierarchy.level_one_mean
        frozen = of_chunks(self._lifts), of_chunks(self._alphas)
        return TiedPass(self._network.levels, of_chunks(self._weights), *frozen, mean, x)

    def sums(self) -> tuple[Float[Tensor, "e p p"], Float[Tensor, "e p"]]:
        """Jᵀ diag(w) J and Jᵀ r of every member."""
        like = self._weights[self._trainable[0]]
        normal = member_arrays(like, self._parameters, self._parameters).zero_()
        gradient = member_arrays(like, self._parameters).zero_()
        for block in self.blocks():
            passed, members = block.passed, block.members
            predicted = passed.output.add_(block.offset)
            reaches = passed.reaches(self._trainable)
            slope = self.objective.row_slopes(predicted, block.y).mul_(block.weight)
            root = self.objective.row_curvatures(predicted, block.y).mul_(block.weight).sqrt_()
            self._add_gradient(gradient[:members], passed, reaches, slope)
            scaled = {level: reaches[level] * root[:, None] for level in self._trainable}
            jacobian = passed.jacobian(scaled, self._trainable)
            for chunk in jacobian.view(members, -1, self._parameters, CHUNK).unbind(1):
                normal[:members].baddbmm_(chunk, chunk.mT)
        return normal, gradient

    def _add_gradient(
        self,
        gradient: Float[Tensor, "e p"],
        passed: TiedPass,
        reaches: dict[int, Float[Tensor, "b k c"]],
        slope: Float[Tensor, "b c"],
    ) -> None:
        """Level by level the product of what reaches S_ℓ and h_ℓ, without the Jacobian."""
        start, members = 0, len(gradient)
        for level in self._trainable:
            shape = self._network.levels[level]
            own = gradient[:, start : start + shape.k * shape.i].view(members, shape.k, shape.i)
            products = torch.bmm(reaches[level] * slope[:, None], passed.h[level].mT)
            for chunk in products.view(members, -1, shape.k, shape.i).unbind(1):
                own += chunk
            start += shape.k * shape.i
