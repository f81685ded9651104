"""nMSE of every learner: over n where the grid has several, otherwise one row a learner. Log axes."""

from collections.abc import Callable
from typing import Any

from bfc_core.specs import ExperimentSpec
from service.charts.layout import (
    DECADES,
    HIERARCHICAL,
    KERNEL,
    LOG,
    encoded,
    family_of,
    grid_point_label,
    interval_of,
    is_drawable,
    marked,
    missing_note,
    paneled,
    seeds_note,
)
from service.charts.theory import theory_layers, theory_note, theory_rows

NMSE_AXIS = DECADES | {"title": "nMSE on fresh samples (log)"}


def comparison_chart(comparison: dict[str, Any], theory: ExperimentSpec | None = None) -> dict[str, Any]:
    """Build the chart; what has no finished run is left out and counted in the subtitle.

    ``theory`` is the experiment whose theory is drawn over learning curves; one row a learner has no place for it.
    """
    cells = comparison["cells"]
    over_n = len({cell["n"] for cell in cells}) > 1
    rows = [
        {
            "learner": cell["label"],
            "family": family_of(cell),
            "n": cell["n"],
            "point": grid_point_label(cell),
            "panel": grid_point_label(cell, with_n=not over_n),
        }
        | interval_of(cell["nmse"])
        for cell in cells
        if is_drawable(cell["nmse"])
    ]
    panels = list(dict.fromkeys(row["panel"] for row in rows))
    note = seeds_note([cell["nmse"] for cell in cells if is_drawable(cell["nmse"])]) + missing_note(cells)
    learners = list(dict.fromkeys(row["learner"] for row in rows))
    chart = _over_n(learners) if over_n else _by_learner(learners)
    title = ["Error by learner", *panels[: len(panels) == 1], note]
    if theory is not None and over_n:
        dims = {grid_point_label(cell, with_n=False): cell["dim"] for cell in cells}
        overlay = theory_rows(theory, {panel: dims[panel] for panel in panels})
        _lay_under(chart, theory_layers)
        return paneled(chart, panels, [*rows, *overlay], [*title, theory_note(overlay)])
    return paneled(chart, panels, rows, title)


def _lay_under(
    chart: dict[str, Any], layers: Callable[[dict[str, Any], dict[str, Any]], list[dict[str, Any]]]
) -> None:
    """Put layers under those of a chart, which from then on draw measured rows only."""
    measured = chart["layer"]
    x = measured[0]["encoding"]["x"]
    y = {name: value for name, value in measured[0]["encoding"]["y"].items() if name != "field"}
    for layer in measured:
        layer["transform"] = [{"filter": "isValid(datum.learner)"}]
    chart["layer"] = [*layers(x, y), *measured]


def _by_learner(learners: list[str]) -> dict[str, Any]:
    """Median and interval, one row a learner in the order of the experiment."""
    marks = encoded("family", marked(None, [HIERARCHICAL, KERNEL]))
    y = {
        "field": "learner",
        "type": "nominal",
        "title": None,
        "sort": learners,
        "axis": {"labelLimit": 320, "grid": False},
    }
    x = {"type": "quantitative", "scale": LOG, "axis": NMSE_AXIS}
    return {
        "width": 420,
        "height": {"step": 24},
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {
                    "y": y,
                    "x": x | {"field": "low"},
                    "x2": {"field": "high"},
                    "color": marks["color"],
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
                "encoding": {"y": y, "x": x | {"field": "median"}, **marks},
            },
        ],
    }


def _over_n(learners: list[str]) -> dict[str, Any]:
    """Learning curves: lines through medians, dashed for kernels, intervals as bars."""
    marks = encoded("learner", marked(None, learners))
    x = {
        "field": "n",
        "type": "quantitative",
        "scale": {"type": "log", "base": 2, "nice": False, "padding": 12},
        "axis": {"title": "training samples n (log2)", "format": "d", "grid": True, "tickCount": 8},
    }
    y = {"type": "quantitative", "scale": LOG, "axis": NMSE_AXIS}
    dash = {
        "field": "family",
        "type": "nominal",
        "scale": {"domain": [HIERARCHICAL, KERNEL], "range": [[1, 0], [6, 4]]},
        "legend": None,
    }
    return {
        "width": 360,
        "height": 300,
        "layer": [
            {
                "mark": {"type": "line", "strokeWidth": 2},
                "encoding": {
                    "x": x,
                    "y": y | {"field": "median"},
                    "color": marks["color"],
                    "strokeDash": dash,
                },
            },
            {
                "mark": {"type": "rule", "strokeWidth": 1.5},
                "encoding": {
                    "x": x,
                    "y": y | {"field": "low"},
                    "y2": {"field": "high"},
                    "color": marks["color"],
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                "encoding": {"x": x, "y": y | {"field": "median"}, **marks},
            },
        ],
    }
