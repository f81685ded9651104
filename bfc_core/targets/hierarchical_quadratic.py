"""The random target network of arXiv:2001.04413 §3, normalised so that its levels have unit scale.

Every block W*_{ℓ,j} has singular values in [1/κ, κ] (orthonormal rows at κ = 1) times one scalar. The scalars
are chosen so that the blocks of a level contribute equal variance and the entries of S*_ℓ have mean square 1,
both measured on ``NORMALISATION_SAMPLES`` fresh draws of the input law (the paper leaves the scale free).
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.inputs import draw_inputs
from bfc_core.seeding import generator_for
from bfc_core.specs import HierarchicalQuadratic, Hierarchy, InputLaw, hierarchy_of
from bfc_core.targets.hierarchy import HierarchyTarget

NORMALISATION_SAMPLES = 16_384


Block = Callable[[int, int, int], Float[Tensor, "k j"]]
"""Draws the block of a source (its level, rows, columns)."""


def build_hierarchical_quadratic(
    spec: HierarchicalQuadratic, inputs: InputLaw, dim: int, seed: int
) -> HierarchyTarget:
    """Draw the weights from the seed's ``target`` stream; α does not enter the draw.

    Raises:
        ValueError: where a level is wider than one of its sources, so that no orthonormal rows exist.
    """
    generator = generator_for(seed, "target")

    def block(_: int, rows: int, columns: int) -> Float[Tensor, "k j"]:
        return conditioned_rows(rows, columns, spec.kappa, generator)

    return normalised_hierarchy(hierarchy_of(spec), inputs, dim, seed, block)


def normalised_hierarchy(
    hierarchy: Hierarchy, inputs: InputLaw, dim: int, seed: int, draw_block: Block
) -> HierarchyTarget:
    """Blocks as drawn, each times one scalar: equal variance within a level, mean square 1 of S*_ℓ."""
    # The normalisation has rows of its own: they must not depend on n, and no learner may see them.
    x = draw_inputs(inputs, NORMALISATION_SAMPLES, dim, seed, "normalisation")
    outputs = {0: x, 1: x.square() - hierarchy.level_one_mean}
    weights: dict[tuple[int, int], Tensor] = {}
    for level in hierarchy.levels:
        sources = hierarchy.connections[level]
        blocks: list[Tensor] = []
        for source in sources:
            block = draw_block(source, hierarchy.widths[level], outputs[source].shape[1])
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


def conditioned_rows(
    rows: int, columns: int, kappa: float, generator: torch.Generator
) -> Float[Tensor, "rows columns"]:
    """A random block with singular values log-spaced in [1/κ, κ]; a single row has norm 1.

    At κ = 1 nothing further is drawn: the orthonormal rows stay what they are without the field.
    """
    orthonormal = _orthonormal_rows(rows, columns, generator)
    if kappa == 1 or rows == 1:
        return orthonormal
    end = math.log10(kappa)
    values = torch.logspace(-end, end, rows, dtype=torch.float64)
    rotation = _orthonormal_rows(rows, rows, generator)
    return rotation @ (values[:, None] * orthonormal)


def _orthonormal_rows(rows: int, columns: int, generator: torch.Generator) -> Float[Tensor, "rows columns"]:
    """Haar-distributed orthonormal rows: QR of a Gaussian matrix with the signs of R's diagonal."""
    if rows > columns:
        raise ValueError(f"{rows} orthonormal rows do not exist in dimension {columns}")
    gaussian = torch.randn(columns, rows, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    rows_found: Tensor = (q * r.diagonal().sign()).mT.contiguous()
    return rows_found
