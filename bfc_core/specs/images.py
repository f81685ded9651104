"""Data sets of images with class labels: finitely many rows, and no formula for what is to be learned."""

from dataclasses import dataclass
from math import prod
from typing import Annotated, Literal

from pydantic import Field

from bfc_core.specs.data_sets import DataSet, Sizes


@dataclass(frozen=True)
class ImageSet:
    """Height, width and channels of an image, the number of classes, and how many rows there are of either part."""

    shape: tuple[int, int, int]
    classes: int
    training: int
    test: int

    @property
    def dim(self) -> int:
        """Length of a row."""
        return prod(self.shape)


IMAGE_SETS = {"digits": ImageSet((8, 8, 1), 10, training=1297, test=500)}


class Images(DataSet):
    """Class labels of small images, learned as one-hot vectors; the class of the largest output is predicted.

    ``digits``: 1797 handwritten digits of 8 × 8 pixels from the UCI repository (E. Alpaydin, C. Kaynak, 1998), which
    come with scikit-learn. The seed shuffles them: 500 rows are for testing, whatever n is, of which at most
    ``budget.test_samples`` are used; n training rows are the first of the other 1297. Pixels are scaled to mean 0
    and mean square 1 over the whole set. Needs the inputs ``data_set`` and the set's own dim.
    """

    kind: Literal["images"]
    data_set: Annotated[Literal["digits"], Field(description="digits: dim 64, ten classes")] = "digits"

    @property
    def images(self) -> ImageSet:
        """Sizes of the data set."""
        return IMAGE_SETS[self.data_set]

    @property
    def sizes(self) -> Sizes:
        """Sizes of both parts."""
        images = self.images
        return Sizes(images.dim, images.training, images.test, images.classes)

    @property
    def name(self) -> str:
        """The data set."""
        return self.data_set
