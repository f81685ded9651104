"""Rows (one a run) → cells (one a learner and grid point) → a comparison of learners. Pure.

Learners are compared seed by seed, because all learners of one seed see the same target and samples.
Diverged and failed runs are counted in their cell and warned about; they never enter a summary.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bfc_core.specs import (
    LOWEST_LEVEL,
    AnyLearner,
    HierarchicalQuadratic,
    KernelHardInstance,
    MatchedComputeControl,
    Metrics,
    Recipe,
    RunSpec,
    label_of,
)
from bfc_core.statistics.budgets import Spent, trials_of, unequal_budgets
from bfc_core.statistics.comparison import (
    FEWEST_FOR_BOOTSTRAP,
    FEWEST_TO_CONCLUDE,
    RESOLUTION,
    PairedRatio,
    Summary,
    holm,
    paired_ratio,
    summarise,
)

BASELINE_KINDS = ("algorithm_1", "joint")
"""What ratios are taken against, in order of preference; otherwise the first learner."""


@dataclass(frozen=True)
class Row:
    """One run as the statistics see it."""

    spec: RunSpec
    status: str
    metrics: Metrics | None = None
    seconds: float | None = None
    steps: int | None = None
    flops: int | None = None
    selection: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class GridPoint:
    """What is equal for learners that may be compared: everything but learner and seed."""

    n: int
    dim: int
    alphas: tuple[float, ...] | None


@dataclass(frozen=True)
class Cell:
    """One learner at one grid point, over its seeds."""

    label: str
    learner: AnyLearner
    point: GridPoint
    seeds: int
    statuses: Mapping[str, int]
    nmse: Summary
    feature_error: Mapping[int, Summary]
    feature_error_scale_free: Mapping[int, Summary]
    variance_explained: Mapping[int, Summary]
    spent: Spent
    by_seed: Mapping[int, Metrics] = field(repr=False)
    """Metrics of the runs that succeeded."""


@dataclass(frozen=True)
class Ratio:
    """One learner over the baseline at one grid point; ``level`` is None for the nMSE."""

    label: str
    against: str
    point: GridPoint
    metric: str
    level: int | None
    ratio: PairedRatio
    p_value_holm: float | None
    unequal_budgets: tuple[str, ...] = ()
    """What the two learners spent unequally: of steps, flops, trials and seconds."""


@dataclass(frozen=True)
class BackwardGain:
    """Feature error after the matched-compute control over that of a learner that corrects backward."""

    label: str
    against: str
    point: GridPoint
    level: int
    ratio: PairedRatio


@dataclass(frozen=True)
class Comparison:
    """Everything the rows of one experiment say about its learners."""

    baseline: str | None
    cells: Sequence[Cell]
    ratios: Sequence[Ratio]
    backward_gain: Sequence[BackwardGain]
    warnings: Sequence[str]


def compare(rows: Iterable[Row]) -> Comparison:
    """Cells in the order of their first row, ratios against the baseline, backward gain, warnings."""
    grouped: defaultdict[tuple[AnyLearner, GridPoint], list[Row]] = defaultdict(list)
    for row in rows:
        grouped[(row.spec.learner, grid_point_of(row.spec))].append(row)
    labels = distinct_labels([learner for learner, _ in grouped])
    cells = [_cell(labels[learner], learner, point, group) for (learner, point), group in grouped.items()]
    baseline = _baseline([cell.learner for cell in cells])
    ratios = _with_holm([] if baseline is None else _ratios(cells, baseline))
    gains = _backward_gains(cells)
    return Comparison(
        baseline=None if baseline is None else labels[baseline],
        cells=cells,
        ratios=ratios,
        backward_gain=gains,
        warnings=_warnings(cells, ratios),
    )


def grid_point_of(spec: RunSpec) -> GridPoint:
    """Where in the grid a run lies; alphas are those of a target with one α a level."""
    target = spec.target
    alphas = target.alphas if isinstance(target, HierarchicalQuadratic | KernelHardInstance) else None
    return GridPoint(spec.n, spec.dim, alphas)


def distinct_labels(learners: Iterable[AnyLearner]) -> dict[AnyLearner, str]:
    """A label for each learner; where two would share one, the fields in which they differ are added."""
    unique = list(dict.fromkeys(learners))
    sharing: defaultdict[str, list[AnyLearner]] = defaultdict(list)
    for learner in unique:
        sharing[label_of(learner)].append(learner)
    return {learner: _distinct_label(learner, sharing[label_of(learner)]) for learner in unique}


def _distinct_label(learner: AnyLearner, namesakes: Sequence[AnyLearner]) -> str:
    label = label_of(learner)
    if len(namesakes) == 1:
        return label
    fields = [_flat(namesake.model_dump(mode="json")) for namesake in namesakes]
    mine = _flat(learner.model_dump(mode="json"))
    differing = [name for name in mine if len({str(other.get(name)) for other in fields}) > 1]
    return f"{label} ({', '.join(f'{name} {mine[name]}' for name in differing)})"


def _flat(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _baseline(learners: Sequence[AnyLearner]) -> AnyLearner | None:
    for kind in BASELINE_KINDS:
        for learner in learners:
            if learner.kind == kind:
                return learner
    return learners[0] if learners else None


def _cell(label: str, learner: AnyLearner, point: GridPoint, rows: Sequence[Row]) -> Cell:
    by_seed = {
        row.spec.seed: row.metrics for row in rows if row.status == "succeeded" and row.metrics is not None
    }
    metrics = list(by_seed.values())
    return Cell(
        label=label,
        learner=learner,
        point=point,
        seeds=len(rows),
        statuses=Counter(row.status for row in rows),
        nmse=summarise([each.nmse for each in metrics if each.nmse is not None]),
        feature_error=_by_level([each.feature_error for each in metrics]),
        feature_error_scale_free=_by_level([each.feature_error_scale_free for each in metrics]),
        variance_explained=_by_level([each.variance_explained for each in metrics]),
        spent=_spent([row for row in rows if row.metrics is not None]),
        by_seed=by_seed,
    )


def _spent(rows: Sequence[Row]) -> Spent:
    return Spent(
        steps=summarise([row.steps for row in rows if row.steps is not None]),
        flops=summarise([row.flops for row in rows if row.flops is not None]),
        seconds=summarise([row.seconds for row in rows if row.seconds is not None]),
        trials=summarise([trials_of(row.spec, row.selection) for row in rows if row.steps is not None]),
    )


def _by_level(numbers: Sequence[Mapping[int, float | None]]) -> dict[int, Summary]:
    levels = sorted({level for each in numbers for level in each})
    return {
        level: summarise([value for each in numbers if (value := each.get(level)) is not None])
        for level in levels
    }


def _ratios(cells: Sequence[Cell], baseline: AnyLearner) -> list[Ratio]:
    against = {cell.point: cell for cell in cells if cell.learner == baseline}
    ratios: list[Ratio] = []
    for cell in cells:
        base = against.get(cell.point)
        if base is None or cell.learner == baseline:
            continue
        unequal = unequal_budgets(cell.spent, base.spent)
        compared: list[tuple[str, int | None]] = [("nmse", None)]
        compared += [("feature_error", level) for level in cell.feature_error if level in base.feature_error]
        for metric, level in compared:
            ratio = paired_ratio(_values(cell, metric, level), _values(base, metric, level))
            ratios.append(Ratio(cell.label, base.label, cell.point, metric, level, ratio, None, unequal))
    return ratios


def _with_holm(ratios: Sequence[Ratio]) -> list[Ratio]:
    """All tests of one comparison are one family: whoever reads the table may pick any row of it."""
    corrected = holm([each.ratio.p_value for each in ratios])
    return [replace(each, p_value_holm=p_value) for each, p_value in zip(ratios, corrected, strict=True)]


def _backward_gains(cells: Sequence[Cell]) -> list[BackwardGain]:
    by_learner = {(cell.learner, cell.point): cell for cell in cells}
    learners = list(dict.fromkeys(cell.learner for cell in cells))
    gains: list[BackwardGain] = []
    for cell in cells:
        partner = _partner(cell.learner, learners)
        other = None if partner is None else by_learner.get((partner, cell.point))
        if other is None or LOWEST_LEVEL not in cell.feature_error or LOWEST_LEVEL not in other.feature_error:
            continue
        ratio = paired_ratio(
            _values(cell, "feature_error", LOWEST_LEVEL), _values(other, "feature_error", LOWEST_LEVEL)
        )
        gains.append(BackwardGain(cell.label, other.label, cell.point, LOWEST_LEVEL, ratio))
    return gains


def _partner(learner: AnyLearner, learners: Sequence[AnyLearner]) -> AnyLearner | None:
    """The learner a control is held against: of the same recipe where there is one, and of the best kind."""
    if not isinstance(learner, MatchedComputeControl):
        return None
    candidates = [
        other
        for kind in BASELINE_KINDS
        for other in learners
        if other.kind == kind and isinstance(other, Recipe)
    ]
    # Fields of one kind only, such as those of the exact mode, tell no recipes apart.
    alike = [other for other in candidates if _recipe_of(other) == _recipe_of(learner)]
    return next(iter(alike or candidates), None)


def _recipe_of(learner: Recipe) -> tuple[object, ...]:
    return tuple(getattr(learner, name) for name in Recipe.model_fields)


def _values(cell: Cell, metric: str, level: int | None) -> dict[int, float]:
    chosen: dict[int, float | None] = {
        seed: metrics.nmse if level is None else getattr(metrics, metric).get(level)
        for seed, metrics in cell.by_seed.items()
    }
    return {seed: value for seed, value in chosen.items() if value is not None and math.isfinite(value)}


def _warnings(cells: Sequence[Cell], ratios: Sequence[Ratio]) -> list[str]:
    warnings: list[str] = []
    fewest = min((cell.nmse.seeds for cell in cells if cell.nmse.seeds), default=0)
    if cells and fewest < FEWEST_FOR_BOOTSTRAP:
        warnings.append(
            f"the smallest cell has {fewest} finished seed{_s(fewest)}: intervals of cells with fewer than "
            f"{FEWEST_FOR_BOOTSTRAP} are the extremes, not confidence intervals"
        )
    pairs = min((each.ratio.pairs for each in ratios), default=FEWEST_TO_CONCLUDE)
    if pairs < FEWEST_TO_CONCLUDE:
        warnings.append(
            f"some ratios rest on {pairs} pair{_s(pairs)} of seeds, too few for p-values: "
            f"the sign-flip test needs at least {FEWEST_TO_CONCLUDE} to reach p < 0.05"
        )
    solved = sum(
        metrics.nmse is not None and metrics.nmse < RESOLUTION
        for cell in cells
        for metrics in cell.by_seed.values()
    )
    if solved and ratios:
        warnings.append(
            f"{solved} run{_s(solved)} ended below an nMSE of {RESOLUTION:g}; ratios count that as {RESOLUTION:g}"
        )
    if unequal := _unequal_in_words(ratios):
        warnings.append(unequal)
    for status, words in (("diverged", "diverged"), ("failed", "failed"), ("cancelled", "were cancelled")):
        count = sum(cell.statuses.get(status, 0) for cell in cells)
        if count:
            warnings.append(f"{count} run{_s(count)} {words}; the summaries are over the others")
    unfinished = sum(
        count
        for cell in cells
        for status, count in cell.statuses.items()
        if status in {"queued", "running", "cancelling"}
    )
    if unfinished:
        warnings.append(
            f"{unfinished} run{' is' if unfinished == 1 else 's are'} not finished yet; numbers may move"
        )
    return warnings


def _unequal_in_words(ratios: Sequence[Ratio]) -> str | None:
    by_label: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for each in ratios:
        if each.unequal_budgets:
            by_label[each.label] |= dict.fromkeys(each.unequal_budgets)
    if not by_label:
        return None
    learners = "; ".join(f"{label}: {', '.join(names)}" for label, names in by_label.items())
    return f"budgets are not those of {ratios[0].against}: {learners}"


def _s(count: int) -> str:
    return "" if count == 1 else "s"
