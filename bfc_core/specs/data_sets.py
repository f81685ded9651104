"""Data sets: finitely many rows with labels, and no formula for what is to be learned."""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from bfc_core.specs.base import Dim, Spec

LEAST_TRAINING = 8
"""As many training samples as a run has at least."""


@dataclass(frozen=True)
class Sizes:
    """Length of a row, rows of either part, and the number of classes; None where the label is a number."""

    dim: int
    training: int
    test: int
    classes: int | None


class DataSet(Spec):
    """Base of the targets that bring their rows and their labels, and need the inputs ``data_set``."""

    @property
    def sizes(self) -> Sizes:
        """Sizes of both parts."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """What a refusal calls it."""
        raise NotImplementedError


class Array(DataSet):
    """A user's own samples: the arrays x and y of an npz file, named by its SHA-256.

    ``python -m bfc_core.data_sets FILE --folder FOLDER`` checks such a file, keeps it where runs of this machine look
    for it, and prints this target. The seed shuffles the rows: ``test_rows`` of them are for testing, whatever n is; of
    these at most ``budget.test_samples`` are used; n training rows are the first of the others. Without ``classes`` y
    is a number; with ``classes`` it is a class number from 0 on, learned as a one-hot vector. Needs the inputs
    ``data_set``; dim is ``columns``.
    """

    kind: Literal["array"]
    sha256: Annotated[
        str, StringConstraints(pattern=r"^[0-9a-f]{64}$"), Field(description="of the file, in lower-case hex")
    ]
    rows: Annotated[int, Field(ge=24, le=1_000_000, description="of the file")]
    columns: Annotated[Dim, Field(description="numbers of a row of x")]
    classes: Annotated[int, Field(ge=2, le=1000)] | None = None
    test_rows: Annotated[int, Field(ge=16, le=200_000, description="rows kept for testing")]
    scaling: Annotated[
        Literal["none", "all", "columns"],
        Field(
            description="of x, from the rows that are not for testing: 'all' to mean 0 and mean square 1 over all "
            "numbers, 'columns' of every column by itself"
        ),
    ] = "none"

    @model_validator(mode="after")
    def _rows_are_left(self) -> Self:
        if self.rows - self.test_rows < LEAST_TRAINING:
            raise ValueError(
                f"{self.test_rows} of {self.rows} rows are for testing: at least {LEAST_TRAINING} must be left"
            )
        return self

    @property
    def sizes(self) -> Sizes:
        """Sizes of both parts."""
        return Sizes(self.columns, self.rows - self.test_rows, self.test_rows, self.classes)

    @property
    def name(self) -> str:
        """The beginning of its hash."""
        return f"the array {self.sha256[:12]}"
