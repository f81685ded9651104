"""What a kernel is: a positive semi-definite function of two inputs, evaluated in blocks."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from bfc_core.flops.kernels import PairFlops
from bfc_core.kernels.gram import cross_gram, symmetric_gram

Blocks = Callable[[slice, slice], Tensor]
"""The block of some rows and some columns of a gram."""


class Kernel(ABC):
    """A kernel k(x, z) on R^d; n and m count rows, d is the input dimension."""

    @abstractmethod
    def block(self, x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        """k(x_i, z_j) for a block small enough to stay in the cache; a new tensor that the caller owns."""

    def blocks_of(self, x: Float[Tensor, "n d"]) -> Blocks:
        """Blocks of x with itself, by slices; of those of one call each is overwritten by the next.

        A kernel that can work something out once for all blocks does it here.
        """
        return lambda rows, columns: self.block(x[rows], x[columns])

    @abstractmethod
    def diagonal(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """k(x_i, x_i) analytically: no rounding of an angle or of a distance enters it."""

    def flops(self, dim: int) -> PairFlops:
        """What evaluating it costs at input dimension ``dim``: by default one inner product a pair."""
        return PairFlops(2 * dim)

    def gram(self, x: Float[Tensor, "n d"], z: Float[Tensor, "m d"] | None = None) -> Float[Tensor, "n m"]:
        """k between all rows of x and z; without z, or with x for z, the symmetric gram with its exact diagonal."""
        if z is None or z is x:
            return symmetric_gram(self.block, self.diagonal(x), x)
        return cross_gram(self.block, x, z)


class FiniteRankKernel(Kernel):
    """A kernel that is an inner product of finitely many explicit features."""

    @abstractmethod
    def rank(self, dim: int) -> int:
        """Number of features r at input dimension ``dim``."""

    @abstractmethod
    def features(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n r"]:
        """Φ with k(x_i, z_j) = Φ(x)_i · Φ(z)_j exactly."""
