"""What every target answers, whatever its family."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Target(Protocol):
    """A function with parts and features by level.

    Letters: n samples, k the width of a level. All tensors are float64 unless ``x`` is not.
    """

    @property
    def dim(self) -> int:
        """Length of the rows that the target reads."""
        ...

    def __call__(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:
        """The clean value: what a learner without any error predicts."""
        ...

    def parts(self, x: Float[Tensor, "n dim"]) -> dict[int, Float[Tensor, " n"]]:
        """The part of every level; their sum is the target's part inside its class."""
        ...

    def features(self, x: Float[Tensor, "n dim"]) -> dict[int, Float[Tensor, "n k"]]:
        """The feature of every level that has one; empty where the target has no levels."""
        ...
