"""Maps that a kernel may be given by hand."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

FeatureMap = Literal["identity", "quadratic"]


def mapped(x: Float[Tensor, "n d"], feature_map: FeatureMap) -> Float[Tensor, "n p"]:
    """x itself, or (x, x² − 1) with p = 2 d: the levels 0 and 1 that the hierarchical network starts from."""
    return x if feature_map == "identity" else torch.cat([x, x.square() - 1], dim=1)
