"""What is true of a target on fresh rows, worked out once for every run that is measured on them.

A pack measures each of its runs some dozens of times on the same rows of the same target. What does not depend on the
run (features, parts, the directions and bases that metrics need) is worked out when it is first asked for and kept
with the rows; the operations are those that a run alone would have made, so the numbers are the same to the last bit.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from jaxtyping import Float
from torch import Tensor

from bfc_core.metrics.features import orthonormal_basis
from bfc_core.metrics.regression import DegreeBasis, LevelDirections
from bfc_core.specs import AnyInputs
from bfc_core.targets.base import Target
from bfc_core.targets.degrees import degree_parts

FIRST_ROWS = 1000
"""Test rows on which numbers along training are measured and predictors are taken apart by degree: always the first."""


@dataclass(frozen=True)
class Degrees:
    """Names a target and rows whose parts by degree are asked for: runs that share them share the work."""

    name: str
    target: Target = field(compare=False)
    law: AnyInputs = field(compare=False)
    x: Float[Tensor, "r dim"] = field(compare=False)


@lru_cache(maxsize=64)
def _parts_of(degrees: Degrees) -> dict[int, Float[Tensor, " r"]]:
    return degree_parts(degrees.target, degrees.law, degrees.x)


class TrueRows:
    """Rows with what a target is on them. Letters: r rows, k the width of a level."""

    def __init__(
        self,
        target: Target,
        x: Float[Tensor, "r dim"],
        y: Float[Tensor, " r"] | Float[Tensor, "r c"],
    ) -> None:
        self.target, self.x, self.y = target, x, y

    @cached_property
    def features(self) -> dict[int, Float[Tensor, "r k"]]:
        """S*_ℓ by level."""
        return self.target.features(self.x)

    @cached_property
    def parts(self) -> dict[int, Float[Tensor, " r"]]:
        """The target's parts by level."""
        return self.target.parts(self.x)

    @cached_property
    def directions(self) -> LevelDirections:
        """What level coefficients are measured along."""
        return LevelDirections.of(self.parts)

    @cached_property
    def feature_bases(self) -> dict[int, Float[Tensor, "r k"]]:
        """An orthonormal basis of the span of S*_ℓ by level."""
        return {level: orthonormal_basis(feature) for level, feature in self.features.items()}

    def nbytes(self) -> int:
        """Bytes of what is held now beside the rows themselves."""
        held = [*self._held("features"), *self._held("parts"), *self._held("feature_bases")]
        if "directions" in vars(self):
            held += [direction for direction, _ in self.directions.by_level.values()]
        return sum(tensor.nbytes for tensor in held)

    def _held(self, name: str) -> Iterable[Tensor]:
        found: dict[int, Tensor] = vars(self).get(name, {})
        return found.values()


class Truth:
    """A target and its test rows (clean): all of them, and the first :data:`FIRST_ROWS`.

    ``spread`` is the standard deviation of the target on them, of which label noise is a multiple.
    """

    def __init__(
        self,
        target: Target,
        x: Float[Tensor, "t dim"],
        y: Float[Tensor, " t"] | Float[Tensor, "t c"],
        degrees: Degrees | None = None,
        spread: Float[Tensor, ""] | None = None,
    ) -> None:
        self.target, self._degrees = target, degrees
        self.spread = y.std() if spread is None else spread
        self.every = TrueRows(target, x, y)
        self.first = self.every if len(x) <= FIRST_ROWS else TrueRows(target, x[:FIRST_ROWS], y[:FIRST_ROWS])

    @cached_property
    def degree_parts(self) -> dict[int, Float[Tensor, " r"]]:
        """The target's parts by degree on the first rows; empty where not defined."""
        return {} if self._degrees is None else _parts_of(self._degrees)

    @cached_property
    def degree_basis(self) -> DegreeBasis:
        """What degree coefficients are measured with."""
        return DegreeBasis.of(self.degree_parts)

    def nbytes(self) -> int:
        """Bytes of everything that is held now but parts by degree, which other truths may share."""
        total = self.every.x.nbytes + self.every.y.nbytes + self.every.nbytes()
        if self.first is not self.every:
            total += self.first.nbytes()
        basis = vars(self).get("degree_basis")
        return total + (0 if basis is None or basis.basis is None else basis.basis.nbytes)
