"""Feature error of every level along training, with the stages marked: what corrects what, and when."""

from collections.abc import Sequence
from typing import Any

from service.charts.layout import DECADES, LOG, encoded, marked, paneled


def stages_chart(points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Build the chart from points {panel, seed, step, stage, level, value}; one thin line a seed and level."""
    drawn = [point | {"level": f"level {point['level']}"} for point in points if (point["value"] or 0) > 0]
    panels = list(dict.fromkeys(point["panel"] for point in drawn))
    levels = sorted({point["level"] for point in drawn}, key=lambda name: int(name.split()[1]))
    seeds = len({point["seed"] for point in drawn})
    ends: dict[str, int] = {}
    for point in points:
        ends[point["stage"]] = max(point["step"], ends.get(point["stage"], 0))
    title = [
        "Feature error along training",
        f"one line a seed ({seeds}); dashes end the stages: {', '.join(ends)}",
    ]
    return paneled(_over_steps(levels, sorted(set(ends.values()))), panels, drawn, title)


def _over_steps(levels: list[str], ends: list[int]) -> dict[str, Any]:
    marks = encoded("level", marked(None, levels))
    x = {
        "field": "step",
        "type": "quantitative",
        "axis": {"title": "optimiser steps", "format": "~s", "grid": False},
    }
    y = {
        "field": "value",
        "type": "quantitative",
        "scale": LOG,
        "axis": DECADES | {"title": "feature error (log)"},
    }
    return {
        "width": 380,
        "height": 260,
        "layer": [
            *(
                {
                    "mark": {"type": "rule", "strokeDash": [3, 3], "color": "#888888"},
                    "encoding": {"x": {"datum": end, "type": "quantitative"}},
                }
                for end in ends
            ),
            {
                "mark": {"type": "line", "strokeWidth": 1.2, "opacity": 0.8},
                "encoding": {"x": x, "y": y, "color": marks["color"], "detail": {"field": "seed"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 28},
                "encoding": {"x": x, "y": y, **marks, "detail": {"field": "seed"}},
            },
        ],
    }
