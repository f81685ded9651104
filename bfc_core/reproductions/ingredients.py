"""What presets are made of besides their measures: recipes, kernels, and the experiment of a role."""

from typing import Any

from bfc_core.reproductions.measures import finished_share
from bfc_core.reproductions.preset import Expectation
from bfc_core.specs import ExperimentSpec

PAPER = "arXiv:2001.04413"
CATALOGUE = "this project"

SMALL_RECIPE: dict[str, Any] = {"batch_size": 256, "steps_per_stage": 2000, "width": 20}
"""A quarter of the default recipe's work; used where the claim does not rest on the last digit."""

EVERY_RUN = Expectation("share of runs that succeeded", 1, 1, finished_share)

POLYNOMIAL_2, POLYNOMIAL_4, POLYNOMIAL_8 = (
    {"kind": "kernel_ridge", "kernel": {"kind": "polynomial", "degree": degree}} for degree in (2, 4, 8)
)
RBF = {"kind": "kernel_ridge", "kernel": {"kind": "rbf"}}


def experiment(preset: str, role: str, **fields: Any) -> ExperimentSpec:  # noqa: ANN401 - fields of the spec
    """The experiment of a preset's role, named after both."""
    return ExperimentSpec.model_validate({"name": f"reproduce/{preset}/{role}"} | fields)
