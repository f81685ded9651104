"""Whether the file of a user's data set is where this deployment's runs will look for it."""

from pathlib import Path

from bfc_core import data_sets
from bfc_core.errors import DataSetUnusable
from bfc_core.specs import AnyTarget, Array
from service.errors import FieldProblem, PlanRefusedError


def check_data_set(target: AnyTarget, folder: Path) -> None:
    """Refuse a target whose file this deployment does not hold.

    Raises:
        PlanRefusedError: it is missing, another one, or not what the target says; points at the hash.
    """
    if not isinstance(target, Array):
        return
    try:
        data_sets.check(target, folder)
    except DataSetUnusable as error:
        problem = FieldProblem("#/target/sha256", "data_set_unusable", str(error))
        raise PlanRefusedError(str(error), (problem,)) from error
