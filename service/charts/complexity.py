"""n*(ε, δ) against dim on log–log axes: how many samples each learner needs as the inputs grow."""

from typing import Any

from service.charts.layout import LOG, encoded, marked, paneled

BRACKETED, CENSORED = "n*", "beyond the grid"


def complexity_chart(complexity: dict[str, Any]) -> dict[str, Any]:
    """Build the chart from the JSON of a complexity; a censored n* is drawn hollow at the end of its grid."""
    rows = [_row(cell) for cell in complexity["cells"]]
    learners = list(dict.fromkeys(row["learner"] for row in rows))
    fits = [
        f"{fit['label']}: dim^{fit['exponent']:.2f} ({fit['low']:.2f} to {fit['high']:.2f})"
        for fit in complexity["fits"]
        if fit["exponent"] is not None
    ]
    note = (
        f"{complexity['metric']} ≤ {complexity['eps']:g} for {100 * (1 - complexity['delta']):.0f} % of the seeds; "
        "bars: 95 % bootstrap; hollow: beyond the grid of n"
    )
    return paneled(_over_dim(learners), [], rows, ["Samples needed", note, *fits])


def _row(cell: dict[str, Any]) -> dict[str, Any]:
    first = cell["first"]
    ends = {"above": cell["largest_n"], "below": cell["smallest_n"]}
    star = first["value"] if first["value"] is not None else ends[first["censored"]]
    return {
        "learner": cell["label"],
        "dim": cell["dim"],
        "n": star,
        "low": cell["smallest_n"] if first["low"] is None else first["low"],
        "high": cell["largest_n"] if first["high"] is None else first["high"],
        "kind": BRACKETED if first["censored"] is None else CENSORED,
    }


def _over_dim(learners: list[str]) -> dict[str, Any]:
    marks = encoded("learner", marked(None, learners))
    x = {
        "field": "dim",
        "type": "quantitative",
        "scale": {"type": "log", "base": 2, "nice": False, "padding": 16},
        "axis": {"title": "input dimension (log)", "format": "d", "grid": True, "tickCount": 6},
    }
    y = {
        "type": "quantitative",
        "scale": LOG | {"base": 2},
        "axis": {"title": "n* (log)", "format": "d", "grid": True},
    }
    filled = {
        "field": "kind",
        "type": "nominal",
        "scale": {"domain": [BRACKETED, CENSORED], "range": [1, 0]},
        "legend": None,
    }
    return {
        "width": 380,
        "height": 320,
        "layer": [
            {
                "transform": [{"filter": f"datum.kind === '{BRACKETED}'"}],
                "mark": {"type": "line", "strokeWidth": 2},
                "encoding": {"x": x, "y": y | {"field": "n"}, "color": marks["color"]},
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
                "mark": {"type": "point", "filled": True, "size": 80, "strokeWidth": 2},
                "encoding": {"x": x, "y": y | {"field": "n"}, "fillOpacity": filled, **marks},
            },
        ],
    }
