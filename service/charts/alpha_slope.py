"""Feature error of a level against the α of the level above it, before and after correction, beside α²."""

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from service.charts.layout import DECADES, LOG, encoded, marked, paneled


def alpha_slope_chart(points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Build the chart from points {alpha, when, value}: lines through medians, and slope 2 through the first's."""
    drawn = [point for point in points if (point["value"] or 0) > 0]
    whens = list(dict.fromkeys(point["when"] for point in drawn))
    guide = _guide([point for point in drawn if point["when"] == whens[0]]) if drawn else []
    marks = encoded("when", marked(None, whens))
    x = {
        "field": "alpha",
        "type": "quantitative",
        "scale": LOG | {"nice": False, "padding": 16},
        "axis": {"title": "α of the level above (log)", "format": "~g", "grid": True, "tickCount": 6},
    }
    y = {"type": "quantitative", "scale": LOG, "axis": DECADES | {"title": "level-2 feature error (log)"}}
    layers = [
        {
            "data": {"values": guide},
            "mark": {"type": "line", "strokeDash": [4, 4], "color": "#888888"},
            "encoding": {"x": x, "y": y | {"field": "value"}},
        },
        {
            "mark": {"type": "line", "strokeWidth": 2},
            "encoding": {"x": x, "y": y | {"field": "value", "aggregate": "median"}, "color": marks["color"]},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 60},
            "encoding": {"x": x, "y": y | {"field": "value"}, **marks},
        },
    ]
    title = ["Error of the lower feature", "points are seeds, lines their medians; dashes: ∝ α²"]
    return paneled({"width": 380, "height": 300, "layer": layers}, [], drawn, title)


def _guide(points: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """c α² through the points, with c their median in logarithms."""
    level = median(math.log(point["value"] / point["alpha"] ** 2) for point in points)
    ends = (min(point["alpha"] for point in points), max(point["alpha"] for point in points))
    return [{"alpha": end, "value": math.exp(level) * end**2} for end in ends]
