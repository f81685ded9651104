"""What fitting returns."""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from bfc_core.specs import Outcome

Selection = dict[str, float | int | str | bool]


@runtime_checkable
class Predictor(Protocol):
    """A fitted function."""

    def __call__(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, " n"] | Float[Tensor, "n c"]:
        """f̂(x); a column for every class where the samples have classes."""
        ...

    def features(self, x: Float[Tensor, "n dim"]) -> dict[int, Float[Tensor, "n k"]]:
        """The learner's feature of every level that it has one for; empty where it has none."""
        ...

    def forms(self) -> dict[int, Float[Tensor, "i i"]]:
        """The learner's quadratic form of every level that has a fixed map of x to read; empty where it has none."""
        ...


@dataclass(frozen=True)
class Fitted:
    """How fitting one run ended, and the predictor where there is one."""

    outcome: Outcome
    predictor: Predictor | None
    steps: int = 0
    flops: int | None = None
    """Of the fit; None where it is not known."""
    selection: Selection = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    message: str | None = None
