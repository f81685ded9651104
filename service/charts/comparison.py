"""nMSE of every learner: over n where the grid has several, otherwise one row a learner. Log axes."""

from typing import Any

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

NMSE_AXIS = DECADES | {"title": "nMSE on fresh samples (log)"}


def comparison_chart(comparison: dict[str, Any]) -> dict[str, Any]:
    """Build the chart; what has no finished run is left out and counted in the subtitle."""
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
    return paneled(chart, panels, rows, ["Error by learner", *panels[: len(panels) == 1], note])


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
