"""The two examples that arXiv:2001.04413 works by hand (§1 and §1.2), as hierarchies with fixed weights."""

import math

import torch

from bfc_core.specs import WorkedExample1, WorkedExample2, hierarchy_of
from bfc_core.targets.hierarchy import HierarchyTarget


def build_worked_example_1(spec: WorkedExample1, dim: int) -> HierarchyTarget:
    """g = x₁² + 2x₂² + α(x₁² + 2x₂² + x₃)², coordinates beyond the third are irrelevant."""
    lower = torch.zeros(2, dim, dtype=torch.float64)
    lower[0, 0], lower[1, 1] = 1.0, math.sqrt(2.0)
    skip = torch.zeros(1, dim, dtype=torch.float64)
    skip[0, 2] = 1.0
    upper = torch.ones(1, 2, dtype=torch.float64)
    return HierarchyTarget(dim, hierarchy_of(spec), {(2, 0): lower, (3, 2): upper, (3, 0): skip})


def build_worked_example_2(spec: WorkedExample2, dim: int) -> HierarchyTarget:
    """x₁⁴ + x₂⁴ + α((x₁⁴ + x₃)² + (x₂⁴ + x₄)²), coordinates beyond the fourth are irrelevant."""
    lower = torch.eye(2, dim, dtype=torch.float64)
    skip = torch.zeros(2, dim, dtype=torch.float64)
    skip[0, 2] = skip[1, 3] = 1.0
    upper = torch.eye(2, dtype=torch.float64)
    return HierarchyTarget(dim, hierarchy_of(spec), {(2, 1): lower, (3, 2): upper, (3, 0): skip})
