"""The hard instance of the paper's lower bounds: width 1, p-sparse directions (arXiv:2001.04413 §3)."""

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.seeding import generator_for
from bfc_core.specs import LOWEST_LEVEL, InputLaw, KernelHardInstance, hierarchy_of
from bfc_core.targets.hierarchical_quadratic import normalised_hierarchy
from bfc_core.targets.hierarchy import HierarchyTarget


def build_kernel_hard_instance(
    spec: KernelHardInstance, inputs: InputLaw, dim: int, seed: int
) -> HierarchyTarget:
    """Draw the supports from the seed's ``target`` stream; α does not enter the draw."""
    generator = generator_for(seed, "target")

    def block(source: int, rows: int, columns: int) -> Float[Tensor, "k j"]:
        if source >= LOWEST_LEVEL:
            return torch.ones(rows, columns, dtype=torch.float64)
        return sparse_row(columns, spec.sparsity, generator)

    return normalised_hierarchy(hierarchy_of(spec), inputs, dim, seed, block)


def sparse_row(columns: int, sparsity: int, generator: torch.Generator) -> Float[Tensor, "1 columns"]:
    """One row with ``sparsity`` entries 1/√sparsity at random places."""
    row = torch.zeros(1, columns, dtype=torch.float64)
    places = torch.randperm(columns, generator=generator)[:sparsity]
    row[0, places] = sparsity**-0.5
    return row
