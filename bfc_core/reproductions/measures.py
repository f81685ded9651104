"""Numbers of the evidence that expectations speak of. Pure; None where the runs do not have the number."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import linear_regression, median

from bfc_core.reproductions.preset import Evidence, Measure, Trained
from bfc_core.specs import Metrics, label_of
from bfc_core.statistics.aggregation import grid_point_of
from bfc_core.statistics.comparison import paired_ratio
from bfc_core.statistics.curves import ComplexityFit, complexity_of

Number = Callable[[Metrics], float | None]


def nmse(metrics: Metrics) -> float | None:
    """The nMSE."""
    return metrics.nmse


def error(metrics: Metrics) -> float | None:
    """The share of labels that are wrong."""
    return metrics.error


def feature_error(level: int) -> Number:
    """The feature error of a level."""
    return lambda metrics: metrics.feature_error.get(level)


def form_error(level: int) -> Number:
    """The form error of a level."""
    return lambda metrics: metrics.form_error.get(level)


def variance_explained(level: int) -> Number:
    """How much of a level's own part the predictor has."""
    return lambda metrics: metrics.variance_explained.get(level)


def median_of(role: str, learner: str, number: Number, alphas: Sequence[float] | None = None) -> Measure:
    """Median over seeds for the learners whose label begins with ``learner``; None where a run lacks it."""

    def measure(evidence: Evidence) -> float | None:
        return _median(_by_seed(evidence, role, learner, number, alphas))

    return measure


def least_of(role: str, learners: Sequence[str], number: Number) -> Measure:
    """The smallest of the learners' medians; None where one of them has none."""

    def measure(evidence: Evidence) -> float | None:
        medians = [median_of(role, learner, number)(evidence) for learner in learners]
        known = [value for value in medians if value is not None]
        return min(known) if len(known) == len(medians) else None

    return measure


def greatest_of(role: str, learners: Sequence[str], number: Number) -> Measure:
    """The greatest of the learners' medians; None where one of them has none."""

    def measure(evidence: Evidence) -> float | None:
        medians = [median_of(role, learner, number)(evidence) for learner in learners]
        known = [value for value in medians if value is not None]
        return max(known) if len(known) == len(medians) else None

    return measure


def ratio(
    role: str, above: str, below: str, number: Number, alphas: Sequence[float] | None = None
) -> Measure:
    """Median of the ratios that are paired by seed."""

    def measure(evidence: Evidence) -> float | None:
        return paired_ratio(
            _by_seed(evidence, role, above, number, alphas), _by_seed(evidence, role, below, number, alphas)
        ).median_ratio

    return measure


def alpha_slope(role: str, level: int, number_at: Callable[[Trained], float | None], learner: str) -> Measure:
    """Slope of log(median over seeds) against log α_level: how an error grows with the level above it."""

    def measure(evidence: Evidence) -> float | None:
        by_alpha: dict[float, list[float]] = {}
        for trained in _runs(evidence, role, learner):
            alphas = grid_point_of(trained.row.spec).alphas
            value = number_at(trained)
            if alphas is None or value is None or value <= 0:
                return None
            by_alpha.setdefault(alphas[level - 2], []).append(value)
        if len(by_alpha) < 2:  # noqa: PLR2004 - a line has two points
            return None
        logs = [(math.log(alpha), math.log(median(values))) for alpha, values in by_alpha.items()]
        centre = sum(u for u, _ in logs) / len(logs)
        return sum((u - centre) * y for u, y in logs) / sum((u - centre) ** 2 for u, _ in logs)

    return measure


def at_end_of(stage: str, level: int) -> Callable[[Trained], float | None]:
    """The last feature error of a level that was measured in a stage."""

    def number_at(trained: Trained) -> float | None:
        values = _measured(trained, stage, level)
        return values[-1] if values else None

    return number_at


def at_start_of(stage: str, level: int) -> Callable[[Trained], float | None]:
    """The first feature error of a level that was measured in a stage."""

    def number_at(trained: Trained) -> float | None:
        values = _measured(trained, stage, level)
        return values[0] if values else None

    return number_at


def at_the_end(level: int) -> Callable[[Trained], float | None]:
    """The feature error of a level in the report."""

    def number_at(trained: Trained) -> float | None:
        return None if trained.row.metrics is None else trained.row.metrics.feature_error.get(level)

    return number_at


def improvement(
    role: str,
    learner: str,
    before: Callable[[Trained], float | None],
    after: Callable[[Trained], float | None],
) -> Measure:
    """Median over seeds of before / after within one run."""

    def measure(evidence: Evidence) -> float | None:
        runs = _runs(evidence, role, learner)
        pairs = [(before(trained), after(trained)) for trained in runs]
        ratios = [early / late for early, late in pairs if early is not None and late]
        return median(ratios) if ratios and len(ratios) == len(runs) else None

    return measure


def median_measured(role: str, learner: str, name: str) -> Measure:
    """Median over seeds of a measurement's last value; None where a run lacks it."""

    def measure(evidence: Evidence) -> float | None:
        values = [
            [one.value for one in trained.measurements if one.name == name and one.value is not None]
            for trained in _runs(evidence, role, learner)
        ]
        return median(found[-1] for found in values) if values and all(values) else None

    return measure


def slope_of(points: Mapping[float, Measure]) -> Measure:
    """Least-squares slope of log(measure) against log(key)."""

    def measure(evidence: Evidence) -> float | None:
        found = {x: one(evidence) for x, one in points.items()}
        if any(value is None or value <= 0 for value in found.values()):
            return None
        logs = [(math.log(x), math.log(value)) for x, value in found.items() if value is not None]
        return linear_regression([x for x, _ in logs], [y for _, y in logs]).slope

    return measure


def exponent(role: str, learner: str, eps: float, delta: float, end: str = "exponent") -> Measure:
    """The exponent of n*(ε, δ) in dim, or the ``low`` or ``high`` end of its interval."""

    def measure(evidence: Evidence) -> float | None:
        fit = fit_of(evidence, role, learner, eps, delta)
        value: float | None = None if fit is None else getattr(fit.growth, end)
        return value

    return measure


def censored_share(role: str, learner: str, eps: float, delta: float) -> Measure:
    """Share of the dims at which n*(ε, δ) lies above the largest n that was tried."""

    def measure(evidence: Evidence) -> float | None:
        cells = [
            cell.found.first.censored == "above"
            for cell in complexity_of([trained.row for trained in evidence[role]], eps, delta).cells
            if cell.curve.label.startswith(learner)
        ]
        return sum(cells) / len(cells) if cells else None

    return measure


def fit_of(evidence: Evidence, role: str, learner: str, eps: float, delta: float) -> ComplexityFit | None:
    """How n* of one learner grows with dim."""
    found = complexity_of([trained.row for trained in evidence[role]], eps, delta)
    return next((fit for fit in found.fits if fit.label.startswith(learner)), None)


def finished_share(evidence: Evidence) -> float:
    """Share of all runs that succeeded."""
    rows = [trained.row for runs in evidence.values() for trained in runs]
    return sum(row.status == "succeeded" for row in rows) / max(len(rows), 1)


def _measured(trained: Trained, stage: str, level: int) -> list[float | None]:
    return [
        each.value
        for each in trained.measurements
        if each.name == "feature_error" and each.stage == stage and each.level == level
    ]


def _runs(evidence: Evidence, role: str, learner: str) -> list[Trained]:
    return [trained for trained in evidence[role] if label_of(trained.row.spec.learner).startswith(learner)]


def _by_seed(
    evidence: Evidence, role: str, learner: str, number: Number, alphas: Sequence[float] | None
) -> dict[int, float]:
    """Seed → number; a run that did not succeed, or lacks the number, counts as infinite."""
    found: dict[int, float] = {}
    for trained in _runs(evidence, role, learner):
        row = trained.row
        if alphas is not None and grid_point_of(row.spec).alphas != tuple(alphas):
            continue
        value = number(row.metrics) if row.status == "succeeded" and row.metrics is not None else None
        found[row.spec.seed] = math.inf if value is None else value
    return found


def _median(by_seed: dict[int, float]) -> float | None:
    if not by_seed:
        return None
    value = median(by_seed.values())
    return value if math.isfinite(value) else None
