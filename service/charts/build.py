"""Charts by name. A chart is one Vega-Lite spec, used by pages, notebooks, the command line and tests alike."""

import json
from collections.abc import Callable
from typing import Any

from bfc_core.specs import ExperimentSpec
from service.charts.comparison import comparison_chart
from service.charts.feature_error import feature_error_chart

CHARTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "comparison": comparison_chart,
    "feature-error": feature_error_chart,
}


def build_chart(
    name: str, comparison: dict[str, Any], theory: ExperimentSpec | None = None
) -> dict[str, Any]:
    """Build the named chart from the JSON of a comparison; ``theory`` is drawn over its learning curves.

    Raises:
        KeyError: there is no such chart.
    """
    if name == "comparison":
        return comparison_chart(comparison, theory)
    return CHARTS[name](comparison)


def chart_svg(spec: dict[str, Any]) -> str:
    """Draw a Vega-Lite spec; needs no network and no browser."""
    import vl_convert  # noqa: PLC0415 - docs/decisions/0057

    svg: str = vl_convert.vegalite_to_svg(json.dumps(spec))
    return svg
