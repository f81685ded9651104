"""n*(eps, delta) and its growth, for reading."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from bfc_client.answers import ComplexityCell, ComplexityFit
from bfc_client.command_line.tables import NOTHING, new_table, number


def complexity_table(cells: Sequence[ComplexityCell]) -> Table:
    """One line a learner, dim and alphas."""
    several_alphas = len({cell.alphas for cell in cells}) > 1
    table = new_table("learner", *(["alphas"] if several_alphas else []))
    for name in ("dim", "n*", "95 % interval", "last crossing", "seeds"):
        table.add_column(name, justify="right")
    for cell in cells:
        table.add_row(
            Text(cell.label),
            *([_alphas(cell.alphas)] if several_alphas else []),
            str(cell.dim),
            cell.first.text,
            _interval(cell),
            cell.last.text,
            str(cell.seeds),
        )
    return table


def fit_line(fit: ComplexityFit) -> str:
    """How n* of one learner grows with dim, or why that is not known, in one line."""
    alphas = "" if fit.alphas is None else f" (α {_alphas(fit.alphas)})"
    if fit.exponent is None:
        return f"{fit.label}{alphas}: no exponent: {fit.said}"
    theory = "" if fit.theory is None else f"; theory of {fit.theory.learners}: {fit.theory.statement}"
    return (
        f"{fit.label}{alphas}: n* ∝ dim^{number(fit.exponent)} ({number(fit.low)} to {number(fit.high)}), "
        f"model: {fit.preferred}, {fit.said}{theory}"
    )


def _interval(cell: ComplexityCell) -> str:
    if cell.seeds < 2:  # noqa: PLR2004 - one seed has no interval
        return NOTHING
    low = f"≤ {cell.smallest_n}" if cell.first.low is None else number(cell.first.low)
    high = f"> {cell.largest_n}" if cell.first.high is None else number(cell.first.high)
    return f"{low} to {high}"


def _alphas(alphas: tuple[float, ...] | None) -> str:
    return NOTHING if alphas is None else ", ".join(f"{alpha:g}" for alpha in alphas)
