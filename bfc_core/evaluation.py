"""From a run's spec to its samples, and from a fitted predictor to its report."""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.errors import TargetIsConstant
from bfc_core.flops.counting import FlopCounter
from bfc_core.inputs import draw_inputs
from bfc_core.learners.predictor import Fitted, Predictor
from bfc_core.metrics.classification import accuracy_of, calibrated, class_accuracy_of
from bfc_core.metrics.features import feature_error, feature_error_scale_free, form_error
from bfc_core.metrics.regression import (
    degree_coefficients,
    level_coefficients,
    normalised_mse,
    variance_share,
)
from bfc_core.seeding import generator_for
from bfc_core.specs import AnyInputs, DataSet, DataSetInputs, Metrics, Outcome, Report, RunSpec
from bfc_core.targets.base import Target
from bfc_core.targets.build import build_target
from bfc_core.targets.classification import ClassificationTarget, labels_of
from bfc_core.targets.data_sets import UnknownFunction, draw_rows
from bfc_core.targets.degrees import degree_parts
from bfc_core.targets.forms import level_forms

DEGREE_ROWS = 1000
"""Rows on which a predictor is taken apart by degree: always the first of the test samples."""


CONSTANT = 1e-12
"""A target that varies by less than this share of its size varies by rounding."""

LEAST_SPREAD = 1e-100
"""Of a target that varies less the squares vanish."""


@dataclass(frozen=True)
class Problem:
    """The target of a run with its training samples (noisy) and fresh test samples (clean), float64.

    In classification rows are (x₀, x), one column longer than the run's dim, and y is ±1. Of a data set with
    classes y is the one-hot vector of the class, a matrix of c columns.
    Letters: n training rows, t test rows, dim the length of a row.
    """

    target: Target
    x: Float[Tensor, "n dim"]
    y: Float[Tensor, " n"] | Float[Tensor, "n c"]
    test_x: Float[Tensor, "t dim"]
    test_y: Float[Tensor, " t"] | Float[Tensor, "t c"]
    degrees: "Degrees | None" = None

    @property
    def degree_parts(self) -> dict[int, Float[Tensor, " r"]]:
        """The target's parts by degree on the first :data:`DEGREE_ROWS` test rows; empty where not defined."""
        return {} if self.degrees is None else _parts_of(self.degrees)


@dataclass(frozen=True)
class Degrees:
    """Names a target and rows whose parts by degree are asked for: runs that share them share the work."""

    name: str
    target: Target = field(compare=False)
    law: AnyInputs = field(compare=False)
    x: Float[Tensor, "r dim"] = field(compare=False)


@lru_cache(maxsize=64)
def _parts_of(degrees: Degrees) -> dict[int, Float[Tensor, " r"]]:
    return degree_parts(degrees.target, degrees.law, degrees.x)


def pose(spec: RunSpec, data_sets: Path | None = None) -> Problem:
    """Draw what a run learns from: the same for every learner of one target, n, dim and seed.

    ``data_sets`` is the folder of users' files.

    Raises:
        TargetIsConstant: the target does not vary on the test samples.
        DataSetUnusable: the folder does not hold the file that the target names.
    """
    if isinstance(spec.target, DataSet):
        training, test = draw_rows(spec.target, spec.n, spec.budget.test_samples, spec.seed, data_sets)
        if test.y.ndim == 1:
            _check_spread(test.y)
        return Problem(UnknownFunction(spec.dim), training.x, training.y, test.x, test.y)
    assert not isinstance(spec.inputs, DataSetInputs)  # the spec has refused it
    target = build_target(spec.target, spec.inputs, spec.dim, spec.seed)
    x = draw_inputs(spec.inputs, spec.n, spec.dim, spec.seed, "inputs")
    test_x = draw_inputs(spec.inputs, spec.budget.test_samples, spec.dim, spec.seed, "test")
    if isinstance(target, ClassificationTarget):
        x = target.rows(x, spec.seed, "offset")
        test_x = target.rows(test_x, spec.seed, "test offset")
    y, test_y = target(x), target(test_x)
    _check_spread(test_y)
    if spec.target.label_noise > 0:
        noise = torch.randn(spec.n, generator=generator_for(spec.seed, "noise"), dtype=torch.float64)
        y = y + spec.target.label_noise * test_y.std() * noise
    if isinstance(target, ClassificationTarget):
        y, test_y = labels_of(y), labels_of(test_y)
    rows = test_x[:DEGREE_ROWS].clone()
    name = f"{spec.target.canonical_json()}|{spec.inputs.canonical_json()}|{spec.dim}|{spec.seed}|{len(rows)}"
    return Problem(target, x, y, test_x, test_y, Degrees(name, target, spec.inputs, rows))


def _check_spread(values: Float[Tensor, " t"]) -> None:
    spread, size = float(values.std()), float(values.abs().max())
    if not spread > max(CONSTANT * size, LEAST_SPREAD):
        raise TargetIsConstant(
            f"the target is constant on the {len(values)} test samples, up to {spread:.1e}: there is nothing to learn "
            "or to measure"
        )


def report_of(
    fitted: Fitted, problem: Problem, seconds: float, advice: str = "try a smaller step_size"
) -> Report:
    """Measure a fitted run on fresh samples. A prediction that is not finite is a divergence, told with ``advice``."""
    if fitted.predictor is None:
        return Report(
            outcome=fitted.outcome,
            seconds=seconds,
            steps=fitted.steps,
            flops=fitted.flops,
            selection=fitted.selection,
            warnings=fitted.warnings,
            message=fitted.message,
        )
    with FlopCounter() as counter:
        predicted = fitted.predictor(problem.test_x)
    metrics = _measured(fitted.predictor, predicted, problem)
    # In classification all test labels may be equal: then the accuracy stands without an nMSE.
    is_measurable = bool((problem.test_y != problem.test_y[0]).any())
    diverged = metrics.nmse is None and (is_measurable or metrics.accuracy is None)
    return Report(
        outcome=Outcome.DIVERGED if diverged else fitted.outcome,
        metrics=metrics,
        seconds=seconds,
        steps=fitted.steps,
        flops=None if fitted.flops is None else fitted.flops + counter.flops,
        selection=fitted.selection,
        warnings=fitted.warnings,
        message=f"the predictor is not finite on fresh samples; {advice}" if diverged else None,
    )


def measure(predictor: Predictor, problem: Problem) -> Metrics:
    """Every metric of one predictor on the problem's test samples."""
    return _measured(predictor, predictor(problem.test_x), problem)


def _measured(
    predictor: Predictor, predicted: Float[Tensor, " t"] | Float[Tensor, "t c"], problem: Problem
) -> Metrics:
    if not bool(predicted.isfinite().all()):
        return Metrics(nmse=None)
    if problem.test_y.ndim > 1:
        share = class_accuracy_of(predicted, problem.test_y)
        return Metrics(nmse=normalised_mse(predicted, problem.test_y), accuracy=share, error=1 - share)
    if isinstance(problem.target, UnknownFunction):
        return Metrics(nmse=normalised_mse(predicted, problem.test_y))
    true = problem.target.features(problem.test_x)
    found = {
        level: feature
        for level, feature in predictor.features(problem.test_x).items()
        if level in true and bool(feature.isfinite().all())
    }
    forms = level_forms(problem.target)
    accuracy = None
    scaled = predicted
    if isinstance(problem.target, ClassificationTarget):
        accuracy = accuracy_of(predicted, problem.test_y)
        scaled, predicted = calibrated(predicted, problem.test_x[:, 0]), labels_of(predicted)
    coefficients = level_coefficients(scaled, problem.target.parts(problem.test_x))
    by_degree = degree_coefficients(scaled[:DEGREE_ROWS], problem.degree_parts)
    return Metrics(
        nmse=normalised_mse(predicted, problem.test_y),
        accuracy=accuracy,
        error=None if accuracy is None else 1 - accuracy,
        level_coefficient=dict(coefficients),
        variance_explained={level: variance_share(beta) for level, beta in coefficients.items()},
        degree_coefficient=dict(by_degree),
        degree_variance_explained={degree: variance_share(beta) for degree, beta in by_degree.items()},
        feature_error={level: feature_error(feature, true[level]) for level, feature in found.items()},
        feature_error_scale_free={
            level: feature_error_scale_free(feature, true[level]) for level, feature in found.items()
        },
        form_error={
            level: form_error(form, forms[level])
            for level, form in predictor.forms().items()
            if level in forms and bool(form.isfinite().all())
        },
    )
