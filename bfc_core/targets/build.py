"""From a target's spec to the target."""

from typing import assert_never

from bfc_core.specs import AnyTarget, HierarchicalQuadratic, InputSpec, WorkedExample1, WorkedExample2
from bfc_core.targets.hierarchical_quadratic import build_hierarchical_quadratic
from bfc_core.targets.hierarchy import HierarchyTarget
from bfc_core.targets.worked_examples import build_worked_example_1, build_worked_example_2


def build_target(spec: AnyTarget, inputs: InputSpec, dim: int, seed: int) -> HierarchyTarget:
    """The target that a spec, an input law, a dimension and a seed name."""
    match spec:
        case HierarchicalQuadratic():
            return build_hierarchical_quadratic(spec, inputs, dim, seed)
        case WorkedExample1():
            return build_worked_example_1(spec, dim)
        case WorkedExample2():
            return build_worked_example_2(spec, dim)
        case _:
            assert_never(spec)
