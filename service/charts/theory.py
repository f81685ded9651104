"""The theory overlay of a learning curve: vertical lines at numbers of samples, and expected curves."""

from typing import Any

from bfc_core.specs import ExperimentSpec
from bfc_core.theory.overlay import curves_of, lines_of

DASHES = {"threshold": [2, 2], "peak": [8, 3], "lower bound": [1, 0]}
GREY = "#555555"


def theory_rows(spec: ExperimentSpec, panel_of_dim: dict[str, int]) -> list[dict[str, Any]]:
    """Rows for every panel, by its title and dim: {theory, text, n} of a line, with a value of a curve."""
    rows: list[dict[str, Any]] = []
    for panel, dim in panel_of_dim.items():
        rows += [
            {"panel": panel, "theory": line.kind, "text": line.label, "n": line.n}
            for line in lines_of(spec, dim)
        ]
        rows += [
            {"panel": panel, "theory": "curve", "text": curve.label, "n": n, "value": value}
            for curve in curves_of(spec, dim)
            for n, value in curve.points
        ]
    return rows


def theory_layers(x: dict[str, Any], y: dict[str, Any]) -> list[dict[str, Any]]:
    """Layers under the measured ones; ``x`` and ``y`` are the chart's own axes."""
    place = {"x": x}
    lines = [
        {
            "transform": [{"filter": f"datum.theory === '{kind}'"}],
            "mark": {"type": "rule", "color": GREY, "strokeDash": dash},
            "encoding": place,
        }
        for kind, dash in DASHES.items()
    ]
    names = {
        "transform": [{"filter": "isValid(datum.theory) && datum.theory !== 'curve'"}],
        "mark": {
            "type": "text",
            "angle": 270,
            "align": "right",
            "dx": -4,
            "dy": -6,
            "color": GREY,
            "fontSize": 10,
        },
        "encoding": place | {"y": {"value": 0}, "text": {"field": "text", "type": "nominal"}},
    }
    curves = {
        "transform": [{"filter": "datum.theory === 'curve'"}],
        "mark": {"type": "line", "color": GREY, "strokeWidth": 1.5, "strokeDash": [4, 2]},
        "encoding": place | {"y": y | {"field": "value"}, "detail": {"field": "text"}},
    }
    return [*lines, names, curves]


def theory_note(rows: list[dict[str, Any]]) -> str:
    """What the overlay shows, in words."""
    meanings = {
        "threshold": "dotted: dim^ℓ, where a kernel begins to learn degree ℓ",
        "peak": "dashed: dim^r/r!, where an unregularised kernel peaks",
        "lower bound": "solid: no kernel below",
        "curve": "grey curve: expected error of the kernel",
    }
    shown = {row["theory"] for row in rows}
    said = [meaning for kind, meaning in meanings.items() if kind in shown]
    return "theory: " + ("; ".join(said) if said else "nothing is known within this range of n")
