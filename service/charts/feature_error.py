"""Feature error of every level by learner on a log axis: what backward feature correction changes."""

from typing import Any

from service.charts.layout import (
    DECADES,
    LOG,
    encoded,
    grid_point_label,
    interval_of,
    is_drawable,
    marked,
    missing_note,
    paneled,
    seeds_note,
)


def feature_error_chart(comparison: dict[str, Any]) -> dict[str, Any]:
    """Build the chart from the cells that have level features."""
    cells = [cell for cell in comparison["cells"] if cell["feature_error"]]
    shown = [
        (cell, level, summary)
        for cell in cells
        for level, summary in sorted(cell["feature_error"].items(), key=lambda pair: int(pair[0]))
        if is_drawable(summary)
    ]
    rows = [
        {
            "learner": cell["label"],
            "level": f"level {level}",
            "panel": grid_point_label(cell),
        }
        | interval_of(summary)
        for cell, level, summary in shown
    ]
    panels = list(dict.fromkeys(row["panel"] for row in rows))
    learners = list(dict.fromkeys(row["learner"] for row in rows))
    levels = sorted({row["level"] for row in rows}, key=lambda name: int(name.split()[1]))
    note = seeds_note([summary for _, _, summary in shown]) + missing_note(cells)
    title = ["Feature error by level", *panels[: len(panels) == 1], note]
    return paneled(_by_learner(learners, levels), panels, rows, title)


def _by_learner(learners: list[str], levels: list[str]) -> dict[str, Any]:
    marks = encoded("level", marked(None, levels))
    x = {
        "type": "quantitative",
        "scale": LOG,
        "axis": DECADES | {"title": "feature error against the target's level (log)"},
    }
    place = {
        "y": {
            "field": "learner",
            "type": "nominal",
            "title": None,
            "sort": learners,
            "axis": {"labelLimit": 320, "grid": False},
        },
        "yOffset": {"field": "level", "type": "nominal", "sort": levels},
    }
    return {
        "width": 420,
        "height": {"step": 18},
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": place
                | {"x": x | {"field": "low"}, "x2": {"field": "high"}, "color": marks["color"]},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
                "encoding": place | {"x": x | {"field": "median"}} | marks,
            },
        ],
    }
