"""Data sets of images: rows, labels, and a split by seed; sizes and sources stand in ``bfc_core.specs.images``."""

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bfc_core.seeding import generator_for
from bfc_core.specs.images import Images


@dataclass(frozen=True)
class LabelledImages:
    """Rows of pixels and their class numbers."""

    x: Float[Tensor, "n dim"]
    labels: Int[Tensor, " n"]
    classes: int

    def one_hot(self) -> Float[Tensor, "n c"]:
        """1 in the column of the class."""
        return torch.nn.functional.one_hot(self.labels, self.classes).double()


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


def draw_images(spec: Images, n: int, test_samples: int, seed: int) -> tuple[LabelledImages, LabelledImages]:
    """The first ``n`` training rows and the first test rows of the seed's order; at most the test part's size."""
    sizes = spec.images
    x, labels = _digits()
    order = torch.randperm(len(x), generator=generator_for(seed, "inputs"))
    parts = order[sizes.test :][:n], order[: sizes.test][:test_samples]
    training, test = (LabelledImages(x[rows], labels[rows], sizes.classes) for rows in parts)
    return training, test


@cache
def _digits() -> tuple[Float[Tensor, "n dim"], Int[Tensor, " n"]]:
    from sklearn.datasets import load_digits  # noqa: PLC0415 - docs/decisions/0057

    pixels, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(pixels).double()
    return (x - x.mean()) / x.std(unbiased=False), torch.from_numpy(labels).long()
