"""Tables for reading."""

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from bfc_client.answers import BackwardGain, Cell, Comparison, ExperimentState, Plan, Ratio, Run, Summary
from bfc_client.reproduction import Verdict

_STYLES = {
    "succeeded": "green",
    "diverged": "magenta",
    "failed": "red",
    "partially_succeeded": "yellow",
    "cancelled": "yellow",
    "cancelling": "yellow",
    "running": "cyan",
}
NOTHING = "–"


def experiments_table(states: Iterable[ExperimentState]) -> Table:
    """One line an experiment."""
    table = new_table("id", "name", "status", "created (UTC)")
    table.add_column("runs", justify="right")
    table.add_column("progress", justify="right")
    for state in states:
        table.add_row(
            state.id,
            Text(state.name),
            _status(state.status),
            f"{state.created_at:%Y-%m-%d %H:%M:%S}",
            f"{state.runs.finished}/{state.runs.total}",
            f"{100 * state.progress:.0f} %",
        )
    return table


def runs_table(runs: Iterable[Run]) -> Table:
    """One line a run."""
    table = new_table("run", "learner")
    for name in ("n", "dim", "seed"):
        table.add_column(name, justify="right")
    table.add_column("status")
    table.add_column("nMSE", justify="right")
    for name in ("seconds", "FLOPs", "peak memory"):
        table.add_column(name, justify="right")
    table.add_column("message", overflow="fold")
    for run in runs:
        table.add_row(
            run.id[:8],
            Text(run.label),
            str(run.n),
            str(run.dim),
            str(run.seed),
            _status(run.status),
            number(run.metrics.nmse if run.metrics else None),
            number(run.seconds),
            number(run.flops),
            _peak_in_words(run),
            Text(run.message or ""),
        )
    return table


def reused_in_words(runs: int, seconds: float) -> str:
    """What finished runs of earlier experiments save."""
    return f"{runs} cells are answered by finished runs, which took {number(seconds)} s"


def plan_table(plan: Plan) -> Table:
    """One line a learner: what it would cost."""
    table = new_table("learner")
    for name in ("runs", "seconds", "median error", "FLOPs", "memory"):
        table.add_column(name, justify="right")
    for learner in plan.learners:
        table.add_row(
            Text(learner.label),
            str(learner.cells),
            number(learner.estimated_seconds),
            "not calibrated" if learner.calibration is None else f"{learner.calibration.median_error:.0%}",
            number(learner.estimated_flops),
            bytes_in_words(learner.estimated_memory_bytes),
        )
    return table


def comparison_table(comparison: Comparison, against: str) -> Table:
    """Medians over the seeds, one line a cell; ratios are paired by seed, against one learner."""
    levels = sorted({level for cell in comparison.cells for level in cell.feature_error})
    several_places = len({(cell.n, cell.dim, cell.alphas) for cell in comparison.cells}) > 1
    table = new_table("learner")
    if several_places:
        for name in ("n", "dim", "alphas"):
            table.add_column(name, justify="right")
    for name in ("seeds", "nMSE", f"nMSE / {against}"):
        table.add_column(name, justify="right")
    for level in levels:
        table.add_column(f"feature error {level}", justify="right")
    for name in ("seconds", "FLOPs"):
        table.add_column(name, justify="right")
    table.add_column("not succeeded", justify="right")
    for cell in comparison.cells:
        place = [str(cell.n), str(cell.dim), _alphas(cell)] if several_places else []
        ratio = comparison.ratio(cell.label, against, "nmse", of=cell)
        table.add_row(
            Text(cell.label),
            *place,
            str(cell.succeeded),
            _median(cell.nmse),
            _ratio(ratio),
            *(_median(cell.feature_error.get(level)) for level in levels),
            _median(cell.seconds),
            _median(cell.flops),
            _losses(cell),
        )
    return table


def gain_line(gain: BackwardGain) -> str:
    """Backward gain as one line of text."""
    interval = (
        f" ({number(gain.low)} to {number(gain.high)}, {gain.pairs} seeds)" if gain.low is not None else ""
    )
    return (
        f"backward gain of {gain.against}, level {gain.level} (n {gain.n}, dim {gain.dim}): "
        f"{number(gain.median)}×{interval}"
    )


def verdict_lines(verdict: Verdict) -> list[str]:
    """One line an expectation: whether it holds, what was found, what was expected."""
    return [
        f"{'✓' if each.holds else '✗'} {each.sentence}: {number(each.found)} (expected {each.expected})"
        for each in verdict.findings
    ]


def number(value: float | None) -> str:
    """Three significant digits; a dash where there is no number."""
    return NOTHING if value is None else f"{value:.3g}"


def bytes_in_words(count: int) -> str:
    """A size in binary units."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:  # noqa: PLR2004 - the step of binary units
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def new_table(*columns: str) -> Table:
    """An empty table in the style of all of them."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=name in {"id", "run", "status", "learner"})
    return table


def _status(status: str) -> Text:
    return Text(status, style=_STYLES.get(status, ""))


def _peak_in_words(run: Run) -> str:
    """With how many runs the process had, where it had several."""
    if run.peak_memory_bytes is None:
        return NOTHING
    of = f" of {run.pack_members}" if (run.pack_members or 1) > 1 else ""
    return f"{bytes_in_words(run.peak_memory_bytes)}{of}"


def _median(summary: Summary | None) -> str:
    return number(summary.median if summary else None)


def _ratio(ratio: Ratio | None) -> str:
    return NOTHING if ratio is None or ratio.median_ratio is None else f"{ratio.median_ratio:.3g}×"


def _alphas(cell: Cell) -> str:
    return NOTHING if cell.alphas is None else ", ".join(f"{alpha:g}" for alpha in cell.alphas)


def _losses(cell: Cell) -> str:
    losses = [(cell.diverged, "diverged"), (cell.failed, "failed")]
    return ", ".join(f"{count} {word}" for count, word in losses if count) or NOTHING
