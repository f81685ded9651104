"""From a target's spec to the target."""

from typing import assert_never

from bfc_core.inputs import draw_inputs
from bfc_core.specs import (
    AnyInputs,
    AnyTarget,
    HierarchicalQuadratic,
    InputLaw,
    KernelHardInstance,
    LabelledTarget,
    WorkedExample1,
    WorkedExample2,
)
from bfc_core.specs.data_sets import DataSet
from bfc_core.specs.inputs import DataSetInputs
from bfc_core.specs.plain_targets import PlainTarget
from bfc_core.targets.base import Target
from bfc_core.targets.classification import classification_of
from bfc_core.targets.data_sets import UnknownFunction
from bfc_core.targets.hierarchical_quadratic import NORMALISATION_SAMPLES, build_hierarchical_quadratic
from bfc_core.targets.hierarchy import HierarchyTarget
from bfc_core.targets.kernel_hard_instance import build_kernel_hard_instance
from bfc_core.targets.misspecification import misspecified
from bfc_core.targets.null_twins import null_twin_of
from bfc_core.targets.plain import build_plain
from bfc_core.targets.worked_examples import build_worked_example_1, build_worked_example_2


def build_target(spec: AnyTarget, inputs: AnyInputs, dim: int, seed: int) -> Target:
    """The target that a spec, an input law, a dimension and a seed name."""
    if isinstance(spec, DataSet):
        return UnknownFunction(dim)
    if isinstance(inputs, DataSetInputs):
        raise TypeError(f"{spec.kind} has no rows of its own")
    match spec:
        case HierarchicalQuadratic():
            return _labelled(spec, build_hierarchical_quadratic(spec, inputs, dim, seed), inputs, seed)
        case WorkedExample1():
            return _labelled(spec, build_worked_example_1(spec, dim), inputs, seed)
        case WorkedExample2():
            return _labelled(spec, build_worked_example_2(spec, dim), inputs, seed)
        case KernelHardInstance():
            return _labelled(spec, build_kernel_hard_instance(spec, inputs, dim, seed), inputs, seed)
        case PlainTarget():
            return build_plain(spec, dim, seed)
        case _:
            assert_never(spec)


def _labelled(spec: LabelledTarget, hierarchy: HierarchyTarget, inputs: InputLaw, seed: int) -> Target:
    """The hierarchy with what its spec asks for besides: task, twin, and a component outside the class.

    Everything is normalised on the same rows, which no learner sees.
    """
    plain = spec.task == "regression" and spec.misspecification == 0 and spec.null_twin is None
    if plain:
        return hierarchy
    x = draw_inputs(inputs, NORMALISATION_SAMPLES, hierarchy.dim, seed, "normalisation")
    if spec.task == "classification":
        hierarchy = hierarchy.with_variance(float(hierarchy(x).var()))
    target: Target = hierarchy
    if spec.null_twin is not None:
        target = null_twin_of(hierarchy, spec.null_twin, x, seed)
    if spec.misspecification > 0:
        target = misspecified(target, spec.misspecification, hierarchy.hierarchy.top, x, seed)
    if spec.task == "classification":
        return classification_of(target, x)
    return target
