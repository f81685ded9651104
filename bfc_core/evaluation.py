"""From a run's spec to its samples, and from a fitted predictor to its report."""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.errors import TargetIsConstant
from bfc_core.flops.counting import FlopCounter
from bfc_core.inputs import draw_inputs
from bfc_core.learners.predictor import Fitted, Predictor
from bfc_core.metrics.classification import accuracy_of, calibrated, class_accuracy_of
from bfc_core.metrics.features import feature_errors, form_error
from bfc_core.metrics.regression import normalised_mse, variance_share
from bfc_core.seeding import generator_for
from bfc_core.specs import DataSet, DataSetInputs, Metrics, Outcome, Report, RunSpec
from bfc_core.targets.base import Target
from bfc_core.targets.build import build_target
from bfc_core.targets.classification import ClassificationTarget, labels_of
from bfc_core.targets.data_sets import UnknownFunction, draw_rows
from bfc_core.targets.forms import level_forms
from bfc_core.truth import FIRST_ROWS, Degrees, Truth

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

    truth: Truth
    x: Float[Tensor, "n dim"]
    y: Float[Tensor, " n"] | Float[Tensor, "n c"]

    @property
    def target(self) -> Target:
        """What is to be learnt."""
        return self.truth.target

    @property
    def test_x(self) -> Float[Tensor, "t dim"]:
        """Fresh rows."""
        return self.truth.every.x

    @property
    def test_y(self) -> Float[Tensor, " t"] | Float[Tensor, "t c"]:
        """The clean target on them."""
        return self.truth.every.y

    @property
    def degree_parts(self) -> dict[int, Float[Tensor, " r"]]:
        """The target's parts by degree on the first test rows; empty where not defined."""
        return self.truth.degree_parts


def pose(spec: RunSpec, data_sets: Path | None = None) -> Problem:
    """Draw what a run learns from: the same for every learner of one target, n, dim and seed.

    ``data_sets`` is the folder of users' files.

    Raises:
        TargetIsConstant: the target does not vary on the test samples.
        DataSetUnusable: the folder does not hold the file that the target names.
    """
    return with_samples(spec, truth_of(spec, data_sets), data_sets)


def truth_of(spec: RunSpec, data_sets: Path | None = None) -> Truth:
    """A run's target with its test samples: the same whatever n. Raises what :func:`pose` does."""
    if isinstance(spec.target, DataSet):
        _, test = draw_rows(spec.target, spec.n, spec.budget.test_samples, spec.seed, data_sets)
        if test.y.ndim == 1:
            _check_spread(test.y)
        return Truth(UnknownFunction(spec.dim), test.x, test.y)
    assert not isinstance(spec.inputs, DataSetInputs)  # the spec has refused it
    target = build_target(spec.target, spec.inputs, spec.dim, spec.seed)
    test_x = draw_inputs(spec.inputs, spec.budget.test_samples, spec.dim, spec.seed, "test")
    if isinstance(target, ClassificationTarget):
        test_x = target.rows(test_x, spec.seed, "test offset")
    test_y = target(test_x)
    _check_spread(test_y)
    spread = test_y.std()
    if isinstance(target, ClassificationTarget):
        test_y = labels_of(test_y)
    rows = test_x[:FIRST_ROWS].clone()
    name = f"{spec.target.canonical_json()}|{spec.inputs.canonical_json()}|{spec.dim}|{spec.seed}|{len(rows)}"
    return Truth(target, test_x, test_y, Degrees(name, target, spec.inputs, rows), spread)


def with_samples(spec: RunSpec, truth: Truth, data_sets: Path | None = None) -> Problem:
    """A run's own samples beside what :func:`truth_of` found for it, or for another n."""
    if isinstance(spec.target, DataSet):
        training, _ = draw_rows(spec.target, spec.n, spec.budget.test_samples, spec.seed, data_sets)
        return Problem(truth, training.x, training.y)
    assert not isinstance(spec.inputs, DataSetInputs)
    target = truth.target
    x = draw_inputs(spec.inputs, spec.n, spec.dim, spec.seed, "inputs")
    if isinstance(target, ClassificationTarget):
        x = target.rows(x, spec.seed, "offset")
    y = target(x)
    if spec.target.label_noise > 0:
        noise = torch.randn(spec.n, generator=generator_for(spec.seed, "noise"), dtype=torch.float64)
        y = y + spec.target.label_noise * truth.spread * noise
    if isinstance(target, ClassificationTarget):
        y = labels_of(y)
    return Problem(truth, x, y)


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
    # A prediction whose square is no number has no error either.
    if not isfinite(float(predicted.double().square().mean())):
        return Metrics(nmse=None)
    if problem.test_y.ndim > 1:
        share = class_accuracy_of(predicted, problem.test_y)
        return Metrics(nmse=normalised_mse(predicted, problem.test_y), accuracy=share, error=1 - share)
    if isinstance(problem.target, UnknownFunction):
        return Metrics(nmse=normalised_mse(predicted, problem.test_y))
    truth, rows = problem.truth, problem.truth.every
    errors = {
        level: feature_errors(feature, rows.features[level])
        for level, feature in predictor.features(rows.x).items()
        if level in rows.features and bool(feature.isfinite().all())
    }
    forms = level_forms(problem.target)
    accuracy = None
    scaled = predicted
    if isinstance(problem.target, ClassificationTarget):
        accuracy = accuracy_of(predicted, problem.test_y)
        scaled, predicted = calibrated(predicted, problem.test_x[:, 0]), labels_of(predicted)
    coefficients = rows.directions.coefficients(scaled)
    by_degree = truth.degree_basis.coefficients(scaled[:FIRST_ROWS])
    return Metrics(
        nmse=normalised_mse(predicted, problem.test_y),
        accuracy=accuracy,
        error=None if accuracy is None else 1 - accuracy,
        level_coefficient=dict(coefficients),
        variance_explained={level: variance_share(beta) for level, beta in coefficients.items()},
        degree_coefficient=dict(by_degree),
        degree_variance_explained={degree: variance_share(beta) for degree, beta in by_degree.items()},
        feature_error={level: error for level, (error, _) in errors.items()},
        feature_error_scale_free={level: scale_free for level, (_, scale_free) in errors.items()},
        form_error={
            level: form_error(form, forms[level])
            for level, form in predictor.forms().items()
            if level in forms and bool(form.isfinite().all())
        },
    )
