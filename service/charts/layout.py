"""What every chart shares: the schema, the palette (Okabe–Ito), log axes, and how cells are named."""

from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any, get_args

from bfc_core.specs import AnyLearner, Recipe

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"

HIERARCHICAL = "trains a hierarchy"
KERNEL = "kernel or other baseline"
HIERARCHICAL_KINDS = {
    get_args(learner.model_fields["kind"].annotation)[0]
    for learner in get_args(AnyLearner)
    if issubclass(learner, Recipe)
}

OKABE_ITO = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8AB00"]
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]
CONFIG = {"view": {"stroke": None}, "axis": {"gridColor": "#e6e6e6"}}

# Labels at powers of ten only; the ticks between them stay.
_IS_DECADE = "abs(log(datum.value) / LN10 - round(log(datum.value) / LN10)) < 1e-6"
DECADES = {"format": "~e", "labelExpr": f"{_IS_DECADE} ? datum.label : ''", "grid": True}
LOG = {"type": "log"}


def family_of(cell: dict[str, Any]) -> str:
    """Which of the two families a cell's learner belongs to."""
    return HIERARCHICAL if cell["learner"]["kind"] in HIERARCHICAL_KINDS else KERNEL


def grid_point_label(cell: dict[str, Any], *, with_n: bool = True) -> str:
    """Where in the grid a cell lies, in words."""
    alphas = "" if cell["alphas"] is None else ", α = (" + ", ".join(f"{a:g}" for a in cell["alphas"]) + ")"
    return (f"n = {cell['n']}, " if with_n else "") + f"dim = {cell['dim']}{alphas}"


def marked(title: str | None, domain: Sequence[str]) -> dict[str, Any]:
    """Colour and shape of a nominal field, with one legend for both: hue alone tells nobody apart."""
    legend = {"orient": "bottom", "columns": 3, "labelLimit": 320, "symbolStrokeWidth": 2}
    return {
        "color": {"range": list(islice(cycle(OKABE_ITO), len(domain)))},
        "shape": {"range": list(islice(cycle(SHAPES), len(domain)))},
    } | {"title": title, "domain": list(domain), "legend": legend}


def encoded(field: str, marks: dict[str, Any]) -> dict[str, Any]:
    """The colour and shape channels of a field under :func:`marked`."""
    return {
        channel: {
            "field": field,
            "type": "nominal",
            "title": marks["title"],
            "legend": marks["legend"],
            "scale": {"domain": marks["domain"]} | marks[channel],
        }
        for channel in ("color", "shape")
    }


def interval_of(summary: dict[str, Any]) -> dict[str, Any]:
    """Median, ends and seed count of a summary; without an interval the ends are the median."""
    median = summary["median"]
    return {
        "median": median,
        "low": median if summary["low"] is None else summary["low"],
        "high": median if summary["high"] is None else summary["high"],
        "seeds": summary["seeds"],
    }


def is_drawable(summary: dict[str, Any]) -> bool:
    """Whether a log axis can show it."""
    return (summary["median"] or 0) > 0


def seeds_note(summaries: Sequence[dict[str, Any]]) -> str:
    """The interval's method and the seed counts, as the caption needs them."""
    seeds = sorted({summary["seeds"] for summary in summaries})
    if not seeds:
        return "no run has finished"
    counts = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]}–{seeds[-1]}"
    plural = "" if counts == "1" else "s"
    methods = sorted({summary["method"] for summary in summaries})
    return f"median over {counts} seed{plural}; bars: {', '.join(methods)}"


def missing_note(cells: Sequence[dict[str, Any]]) -> str:
    """What the summaries leave out, in words; empty where they leave out nothing."""
    counts = {word: sum(cell[word] for cell in cells) for word in ("diverged", "failed")}
    counts["not finished or cancelled"] = sum(cell["seeds"] - cell["succeeded"] for cell in cells) - sum(
        counts.values()
    )
    said = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"; × runs left out: {said}" if said else ""


def paneled(
    chart: dict[str, Any], panels: Sequence[str], rows: Sequence[dict[str, Any]], title: list[str]
) -> dict[str, Any]:
    """One view where there is one panel, otherwise a grid of views by the field ``panel``."""
    spec: dict[str, Any] = {
        "$schema": SCHEMA,
        "title": {"text": title[0], "subtitle": title[1:], "anchor": "start", "offset": 12},
        "data": {"values": list(rows)},
        "config": CONFIG,
    }
    if len(panels) <= 1:
        return spec | chart
    header = {"labelAnchor": "start", "labelOrient": "top", "labelFontWeight": "bold"}
    facet = {"field": "panel", "type": "nominal", "title": None, "sort": list(panels), "header": header}
    return spec | {"facet": facet, "columns": 2, "spec": chart}
