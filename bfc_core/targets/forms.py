"""The quadratic form of a target's levels, where a level is a form of something that every learner reads alike."""

from jaxtyping import Float
from torch import Tensor

from bfc_core.specs import LOWEST_LEVEL
from bfc_core.targets.base import Target
from bfc_core.targets.classification import ClassificationTarget
from bfc_core.targets.hierarchy import HierarchyTarget
from bfc_core.targets.misspecification import MisspecifiedTarget
from bfc_core.targets.null_twins import RandomPolynomialTwin
from bfc_core.targets.plain import PlainFunction


def level_forms(target: Target) -> dict[int, Float[Tensor, "i i"]]:
    """M*_ℓ by level: W*ᵀW* of level 2 of a hierarchy, a form of x² − 1 (of x in worked example 1).

    What a level above reads are features, known only up to a basis, so it has no form of its own.
    """
    match target:
        case ClassificationTarget() | MisspecifiedTarget():
            return level_forms(target.inside)
        case RandomPolynomialTwin():
            return level_forms(target.lowest)
        case HierarchyTarget():
            (source,) = target.hierarchy.connections[LOWEST_LEVEL]
            block = target.weights[LOWEST_LEVEL, source]
            return {LOWEST_LEVEL: block.mT @ block}
        case PlainFunction():
            return target.form_by_level
        case _:
            return {}
