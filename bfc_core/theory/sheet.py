"""What a theory sheet is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bound:
    """One statement about a class of learners; ``exponent`` is that of dim, where the statement has one."""

    learners: str
    statement: str
    exponent: float | None
    source: str


@dataclass(frozen=True)
class Threshold:
    """Below this error something further must have been learned."""

    name: str
    value: float
    statement: str


@dataclass(frozen=True)
class Sheet:
    """What a plot may overlay on the measurements of one target."""

    formula: str
    degree: int
    bounds: tuple[Bound, ...]
    thresholds: tuple[Threshold, ...]
