"""Numbers along training: prediction, features by level, what correction changed, and the objective's parts.

Each is a :class:`bfc_core.specs.Measurement` with its step and stage. A stage is measured as it begins, eight
times on its way and as it ends, so its boundaries are the first and last step of its name. What is *not* here
is the report: that is measured on all test samples, once (:mod:`bfc_core.evaluation`).

| name | level | meaning |
|---|---|---|
| nmse, or accuracy in classification | – | on fresh rows |
| feature_error, feature_error_scale_free, alignment | yes | of S_ℓ against S*_ℓ on fresh rows |
| level_coefficient | yes | β_ℓ |
| degree_coefficient, degree_variance_explained | degree | β_k of the target's Hermite degree k and 1 − (1 − β_k)² |
| feature_improvement | yes | layer × stage matrix: feature error as the stage began minus as it ended |
| weight_cosine | yes | mean over the rows of K_ℓ of the cosine to K_ℓ as it left its own stage |
| objective_data | – | loss on training rows |
| objective_lambda_3 … 6 | yes | the parts of Reg, each with its λ |
"""

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor

from bfc_core.evaluation import Problem
from bfc_core.learners.predictor import Predictor
from bfc_core.metrics.classification import accuracy_of, calibrated
from bfc_core.metrics.features import alignment_to_basis, feature_errors, weight_cosine
from bfc_core.metrics.regression import normalised_mse, variance_share
from bfc_core.specs import Measurement
from bfc_core.targets.classification import ClassificationTarget
from bfc_core.training.objective import Objective
from bfc_core.training.regularizer import Regularizer
from bfc_core.truth import FIRST_ROWS

MEASURED_ROWS = FIRST_ROWS
"""Rows for the numbers along training; the report uses all test samples."""

Numbers = dict[tuple[str, int | None], float]
"""Values by name and level (or degree)."""


def numbers_of(predictor: Predictor, problem: Problem) -> Numbers:
    """What a predictor knows of the target, on fresh rows; levels that are not finite are left out."""
    truth, rows = problem.truth, problem.truth.first
    predicted = predictor(rows.x)
    numbers: Numbers = {}
    if isinstance(problem.target, ClassificationTarget):
        numbers["accuracy", None] = accuracy_of(predicted, rows.y)
        predicted = calibrated(predicted, rows.x[:, 0])
    else:
        numbers["nmse", None] = normalised_mse(predicted, rows.y)
    if bool(predicted.isfinite().all()):
        for level, beta in rows.directions.coefficients(predicted).items():
            numbers["level_coefficient", level] = beta
        for degree, beta in truth.degree_basis.coefficients(predicted).items():
            numbers["degree_coefficient", degree] = beta
            numbers["degree_variance_explained", degree] = variance_share(beta)
    for level, found in predictor.features(rows.x).items():
        if level in rows.features and bool(found.isfinite().all()):
            error, scale_free = feature_errors(found, rows.features[level])
            numbers["feature_error", level] = error
            numbers["feature_error_scale_free", level] = scale_free
            numbers["alignment", level] = alignment_to_basis(found, rows.feature_bases[level])
    return numbers


def objective_numbers(
    predictor: Predictor,
    problem: Problem,
    objective: Objective,
    regularizer: Regularizer,
    flat: Float[Tensor, "1 p"],
    active: tuple[int, ...],
    distilled: tuple[int, ...],
) -> Numbers:
    """The data term on training rows, and Reg by level and λ."""
    predicted, y = predictor(problem.x[:MEASURED_ROWS]), problem.y[:MEASURED_ROWS]
    numbers: Numbers = {("objective_data", None): float(objective.value(predicted[None], y[None])[0])}
    for (level, number), value in regularizer.parts(flat, active, distilled).items():
        numbers[f"objective_lambda_{number}", level] = float(value[0])
    return numbers


def improvement_numbers(before: Numbers, after: Numbers) -> Numbers:
    """One column of the layer × stage matrix: how much each level's feature error fell."""
    return {
        ("feature_improvement", level): before[name, level] - value
        for (name, level), value in after.items()
        if name == "feature_error" and (name, level) in before
    }


def cosine_numbers(stage_weights: dict[int, Tensor], now: dict[int, Tensor]) -> Numbers:
    """The weight cosine of every level that has left its own stage."""
    return {
        ("weight_cosine", level): weight_cosine(before, now[level]) for level, before in stage_weights.items()
    }


def measurements(
    numbers: Iterable[tuple[tuple[str, int | None], float]], step: int, stage: str
) -> list[Measurement]:
    """Numbers with the place where they were taken."""
    return [
        Measurement(name=name, step=step, stage=stage, level=level, value=value)
        for (name, level), value in numbers
    ]
