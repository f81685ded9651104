"""The random target network of arXiv:2001.04413 §3, normalised so that its levels have unit scale.

Every block W*_{ℓ,j} has orthonormal rows times one scalar. The scalars are chosen so that the blocks of a
level contribute equal variance and the entries of S*_ℓ have mean square 1, both measured on
``NORMALISATION_SAMPLES`` fresh draws of the input law (the paper leaves the scale free).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.inputs import draw_inputs
from bfc_core.seeding import generator_for
from bfc_core.specs import HierarchicalQuadratic, InputSpec, hierarchy_of
from bfc_core.targets.hierarchy import HierarchyTarget

NORMALISATION_SAMPLES = 16_384


def build_hierarchical_quadratic(
    spec: HierarchicalQuadratic, inputs: InputSpec, dim: int, seed: int
) -> HierarchyTarget:
    """Draw the weights from the seed's ``target`` stream; α does not enter the draw.

    Raises:
        ValueError: where a level is wider than one of its sources, so that no orthonormal rows exist.
    """
    hierarchy = hierarchy_of(spec)
    generator = generator_for(seed, "target")
    # The normalisation has rows of its own: they must not depend on n, and no learner may see them.
    x = draw_inputs(inputs, NORMALISATION_SAMPLES, dim, seed, "normalisation")
    outputs = {0: x, 1: x.square() - hierarchy.level_one_mean}
    weights: dict[tuple[int, int], Tensor] = {}
    for level in hierarchy.levels:
        sources = hierarchy.connections[level]
        blocks: list[Tensor] = []
        for source in sources:
            block = _orthonormal_rows(hierarchy.widths[level], outputs[source].shape[1], generator)
            spread = (outputs[source] @ block.mT).var(0).mean().sqrt()
            blocks.append(block / spread)
        feature = torch.stack(
            [outputs[source] @ block.mT for source, block in zip(sources, blocks, strict=True)]
        ).sum(0)
        scale = feature.square().mean().sqrt()
        for source, block in zip(sources, blocks, strict=True):
            weights[level, source] = block / scale
        outputs[level] = (feature / scale).square()
    return HierarchyTarget(dim, hierarchy, weights)


def _orthonormal_rows(rows: int, columns: int, generator: torch.Generator) -> Float[Tensor, "rows columns"]:
    """Haar-distributed orthonormal rows: QR of a Gaussian matrix with the signs of R's diagonal."""
    if rows > columns:
        raise ValueError(f"{rows} orthonormal rows do not exist in dimension {columns}")
    gaussian = torch.randn(columns, rows, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    rows_found: Tensor = (q * r.diagonal().sign()).mT.contiguous()
    return rows_found
