"""Rows (one a run) → learning curves over n → sample complexity of every learner. Pure.

A curve belongs to one learner, dim and α. Diverged runs are points of infinite error; failed, cancelled and
unfinished runs are no points, and are counted.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bfc_core.specs import AnyLearner
from bfc_core.statistics.aggregation import Row, distinct_labels, grid_point_of
from bfc_core.statistics.comparison import Summary, summarise
from bfc_core.statistics.complexity import Growth, SampleComplexity, growth, sample_complexity
from bfc_core.theory.sheets import Bound, theory_exponent

CurveMetric = Literal["nmse", "error"]


@dataclass(frozen=True)
class Curve:
    """Error over n of one learner at one dim and α."""

    label: str
    learner: AnyLearner
    dim: int
    alphas: tuple[float, ...] | None
    errors: Mapping[int, Mapping[int, float]]
    """n → seed → error, infinite where the run diverged; an n without any point is left out."""
    unfinished: int


@dataclass(frozen=True)
class CurvePoint:
    """One n of a curve: a summary over the seeds that did not diverge, and how many did."""

    n: int
    summary: Summary
    diverged: int


@dataclass(frozen=True)
class ComplexityCell:
    """n*(ε, δ) of one curve."""

    curve: Curve
    found: SampleComplexity


@dataclass(frozen=True)
class ComplexityFit:
    """How n* of one learner grows with dim, and what theory says of its class."""

    label: str
    learner: AnyLearner
    alphas: tuple[float, ...] | None
    growth: Growth
    theory: Bound | None


@dataclass(frozen=True)
class Complexity:
    """Everything the rows of one experiment say about n*."""

    cells: Sequence[ComplexityCell]
    fits: Sequence[ComplexityFit]
    warnings: Sequence[str]


def curves_of(rows: Iterable[Row], metric: CurveMetric = "nmse") -> list[Curve]:
    """One curve a learner, dim and α, in the order of the first rows."""
    grouped: defaultdict[tuple[AnyLearner, int, tuple[float, ...] | None], list[Row]] = defaultdict(list)
    for row in rows:
        point = grid_point_of(row.spec)
        grouped[row.spec.learner, point.dim, point.alphas].append(row)
    labels = distinct_labels([learner for learner, _, _ in grouped])
    curves = []
    for (learner, dim, alphas), group in grouped.items():
        errors: defaultdict[int, dict[int, float]] = defaultdict(dict)
        for row in group:
            error = _error(row, metric)
            if error is not None:
                errors[row.spec.n][row.spec.seed] = error
        unfinished = sum(row.status not in {"succeeded", "diverged"} for row in group)
        curves.append(Curve(labels[learner], learner, dim, alphas, dict(sorted(errors.items())), unfinished))
    return curves


def points_of(curve: Curve) -> list[CurvePoint]:
    """The curve as a plot needs it."""
    return [
        CurvePoint(n, summarise(list(of_n.values())), Counter(map(math.isinf, of_n.values()))[True])
        for n, of_n in curve.errors.items()
    ]


def complexity_of(rows: Iterable[Row], eps: float, delta: float, metric: CurveMetric = "nmse") -> Complexity:
    """n*(ε, δ) of every curve that has a point, and a fit over dim for every learner.

    Raises:
        ValueError: ε or δ is out of range.
    """
    rows = list(rows)
    curves = curves_of(rows, metric)
    cells = [
        ComplexityCell(curve, sample_complexity(curve.errors, eps, delta)) for curve in curves if curve.errors
    ]
    by_learner: defaultdict[tuple[AnyLearner, tuple[float, ...] | None], dict[int, SampleComplexity]]
    by_learner = defaultdict(dict)
    for cell in cells:
        by_learner[cell.curve.learner, cell.curve.alphas][cell.curve.dim] = cell.found
    labels = {curve.learner: curve.label for curve in curves}
    # The alphas axis changes a target's α and nothing that a bound rests on: any row of a learner will do.
    targets = {row.spec.learner: row.spec.target for row in rows}
    fits = [
        ComplexityFit(
            labels[learner], learner, alphas, growth(by_dim), theory_exponent(targets[learner], learner)
        )
        for (learner, alphas), by_dim in by_learner.items()
    ]
    return Complexity(cells, fits, _warnings(curves, cells, delta))


def _error(row: Row, metric: CurveMetric) -> float | None:
    if row.status == "diverged":
        return math.inf
    if row.status != "succeeded" or row.metrics is None:
        return None
    return row.metrics.nmse if metric == "nmse" else row.metrics.error


def _warnings(curves: Sequence[Curve], cells: Sequence[ComplexityCell], delta: float) -> list[str]:
    warnings = []
    unfinished = sum(curve.unfinished for curve in curves)
    if unfinished:
        warnings.append(f"{unfinished} runs have no result; the numbers are over the others")
    censored = [cell for cell in cells if cell.found.first.censored == "above"]
    if censored:
        names = ", ".join(dict.fromkeys(f"{cell.curve.label} at dim {cell.curve.dim}" for cell in censored))
        warnings.append(f"censored, n* lies above the largest n: {names}")
    wavy = [cell for cell in cells if not cell.found.is_monotone]
    if wavy:
        names = ", ".join(dict.fromkeys(f"{cell.curve.label} at dim {cell.curve.dim}" for cell in wavy))
        warnings.append(f"not monotone in n, first and last crossing may differ: {names}")
    if any(cell.found.seeds * delta < 1 - 1e-9 for cell in cells):
        fewest = min(cell.found.seeds for cell in cells)
        # The reciprocal of a denormal number is infinite, which is no number of seeds.
        needed = math.ceil(min(1 / delta, 1e15) - 1e-9)
        warnings.append(
            f"delta = {delta:g} needs at least {needed} seeds and there are {fewest} at some n: "
            "the worst seed stands for the quantile, and the interval is too narrow"
        )
    if any(not curve.errors for curve in curves):
        warnings.append("some curves have no point with this metric and are left out")
    return warnings
