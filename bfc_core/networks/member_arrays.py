"""Arrays of which every member's part begins at the same place of a cache line.

A library's matrix product treats the ends of rows by where they stand in memory, so its last bits depend on the address
of what it writes (measured: a 9 × 9 product in float64 differs by one bit at every odd multiple of 8 bytes). Training
amplifies a last bit; with every member at the same place, a member's numbers do not depend on its place in the pack.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

_LINE_BYTES = 64


def member_arrays(like: Tensor, *shape: int) -> Tensor:
    """An array (e, *shape) of the members, device and type of ``like``, not filled: members are whole lines apart."""
    size = math.prod(shape)
    return like.new_empty(len(like), _apart(size, like.element_size()))[:, :size].view(len(like), *shape)


def member_rows(rows: Float[Tensor, "e p"]) -> Float[Tensor, "e p"]:
    """A copy of the members' rows, whole lines apart; what fills up their last lines is zero."""
    lines = rows.new_zeros(len(rows), _apart(rows.shape[1], rows.element_size()))
    return lines[:, : rows.shape[1]].copy_(rows)


def lines_of(rows: Float[Tensor, "e p"]) -> Float[Tensor, " l"]:
    """All that :func:`member_rows` made, as one vector: with what fills up the last lines.

    Raises:
        ValueError: these rows are not whole lines apart.
    """
    apart = _apart(rows.shape[1], rows.element_size())
    held = rows.untyped_storage().nbytes() // rows.element_size() - rows.storage_offset()
    if held < len(rows) * apart or (len(rows) > 1 and rows.stride(0) != apart):
        raise ValueError(f"rows of {rows.shape[1]} numbers are not whole lines apart")
    return rows.as_strided((len(rows) * apart,), (1,))


def repeated_arrays(of: Tensor, times: int) -> Tensor:
    """Every member's part of an array (e, …) ``times`` times, (e · times, …), all of them whole lines apart."""
    size = math.prod(of.shape[1:])
    into = of.new_empty(len(of), times, _apart(size, of.element_size()))[..., :size]
    into.copy_(of.reshape(len(of), 1, size))
    return torch.flatten(into, 0, 1).view(-1, *of.shape[1:])


def _apart(size: int, number_bytes: int) -> int:
    """So many numbers and what fills up their last line."""
    line = _LINE_BYTES // number_bytes
    return -(-size // line) * line
