"""Arrays of which every member's part begins at the same place of a cache line.

A library's matrix product treats the ends of rows by where they stand in memory, so its last bits depend on the address
of what it writes (measured: a 9 × 9 product in float64 differs by one bit at every odd multiple of 8 bytes). Training
amplifies a last bit; with every member at the same place, a member's numbers do not depend on its place in the pack.
"""

import math

from torch import Tensor

_LINE_BYTES = 64


def member_arrays(like: Tensor, *shape: int) -> Tensor:
    """An array (e, *shape) of the members, device and type of ``like``, not filled: members are whole lines apart."""
    size = math.prod(shape)
    line = _LINE_BYTES // like.element_size()
    apart = -(-size // line) * line
    return like.new_empty(len(like), apart)[:, :size].view(len(like), *shape)
