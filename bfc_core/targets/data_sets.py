"""Rows and labels of data sets, and their split by seed; sizes stand in ``bfc_core.specs``."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bfc_core.data_sets import load
from bfc_core.seeding import generator_for
from bfc_core.specs import Array, DataSet, Images
from bfc_core.spread import spread_of


@dataclass(frozen=True)
class LabelledRows:
    """Rows and what is learned of them: numbers, or a column a class with 1 in that of the row's class."""

    x: Float[Tensor, "n dim"]
    y: Float[Tensor, " n"] | Float[Tensor, "n c"]


@dataclass(frozen=True)
class UnknownFunction:
    """What stands behind the labels of a data set: it has no formula, no parts and no level features."""

    dim: int

    def __call__(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:  # noqa: ARG002
        """Nobody knows.

        Raises:
            TypeError: always.
        """
        raise TypeError("a data set has labels for its own rows only")

    def parts(self, x: Float[Tensor, "n dim"]) -> dict[int, Float[Tensor, " n"]]:  # noqa: ARG002
        """None."""
        return {}

    def features(self, x: Float[Tensor, "n dim"]) -> dict[int, Float[Tensor, "n k"]]:  # noqa: ARG002
        """None."""
        return {}


def draw_rows(
    spec: DataSet, n: int, test_samples: int, seed: int, folder: Path | None
) -> tuple[LabelledRows, LabelledRows]:
    """The first ``n`` training rows and the first test rows of the seed's order; at most the test part's size.

    Raises:
        DataSetUnusable: ``folder`` does not hold the file that the spec names.
    """
    sizes = spec.sizes
    x, labels = _samples(spec, folder)
    order = torch.randperm(len(x), generator=generator_for(seed, "inputs"))
    own, others = order[: sizes.test], order[sizes.test :]
    training, test = others[:n], own[:test_samples]
    mean, spread = _scaling(spec, x, others)

    def drawn(rows: Int[Tensor, " r"]) -> LabelledRows:
        y = labels[rows]
        if sizes.classes is not None:
            y = torch.nn.functional.one_hot(y, sizes.classes).double()
        return LabelledRows((x[rows] - mean) / spread, y)

    return drawn(training), drawn(test)


def _samples(spec: DataSet, folder: Path | None) -> tuple[Float[Tensor, "n dim"], Tensor]:
    match spec:
        case Images():
            return _digits()
        case Array():
            samples = load(spec, folder)
            return torch.from_numpy(samples.x), torch.from_numpy(samples.y)
        case _:
            raise TypeError(f"{spec.kind} is no data set that can be read")  # type: ignore[attr-defined]


def _scaling(spec: DataSet, x: Float[Tensor, "n dim"], rows: Int[Tensor, " r"]) -> tuple[Tensor, Tensor]:
    """What is taken off x, and what it is divided by; a column that varies nowhere becomes 0."""
    zero, one = torch.zeros((), dtype=x.dtype), torch.ones((), dtype=x.dtype)
    if not isinstance(spec, Array) or spec.scaling == "none":
        return zero, one
    known = x[rows] if spec.scaling == "columns" else x[rows].reshape(-1, 1)
    return known.mean(0), spread_of(known)


@cache
def _digits() -> tuple[Float[Tensor, "n dim"], Int[Tensor, " n"]]:
    from sklearn.datasets import load_digits  # noqa: PLC0415 - docs/decisions/0057

    pixels, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(pixels).double()
    return (x - x.mean()) / x.std(unbiased=False), torch.from_numpy(labels).long()
