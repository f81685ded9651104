"""What the flagship experiment must show: the claim of arXiv:2001.04413, as numbers with thresholds.

The thresholds leave room for other machines; the measured values are those of docs/records. Every
ratio is the server's own: the median of the seeds' paired ratios.
"""

from collections.abc import Callable
from dataclasses import dataclass

from bfc_client.answers import Cell, Comparison, ExperimentStatus

LEARNS_BELOW = 1e-3
LAYERWISE_NMSE_RATIO = 5.0
LAYERWISE_FEATURE_RATIO = 3.0
KERNELS_STAY_ABOVE = 0.3
GIVEN_MAP_NMSE_RATIO = 10.0
LOWER_LEVEL = 2

_WITHOUT_A_NETWORK = {"kernel_ridge", "recursive_feature_machine"}


@dataclass(frozen=True)
class Claim:
    """One expected line, what was found, and whether it holds."""

    sentence: str
    found: str
    holds: bool


def claims_of(status: ExperimentStatus, comparison: Comparison) -> list[Claim]:
    """Every line the flagship comparison must show; a number that is missing does not hold."""
    hierarchical = {cell.learner["kind"]: cell for cell in comparison.cells}
    outside = [cell for cell in comparison.cells if cell.learner["kind"] in _WITHOUT_A_NETWORK]
    on_x = [cell for cell in outside if cell.learner.get("feature_map", "identity") == "identity"]
    given = [cell for cell in outside if cell.learner.get("feature_map") == "quadratic"]
    algorithm = hierarchical.get("algorithm_1")
    best_on_x = _least([_nmse(cell) for cell in on_x])
    return [
        Claim("every run finished", status.value.replace("_", " "), status is ExperimentStatus.SUCCEEDED),
        _claim(
            f"algorithm_1 learns the target: nMSE ≤ {LEARNS_BELOW:g}",
            None if algorithm is None else _nmse(algorithm),
            lambda value: value <= LEARNS_BELOW,
        ),
        _claim(
            f"layerwise training falls behind: nMSE ratio to algorithm_1 ≥ {LAYERWISE_NMSE_RATIO:g}",
            _ratio(comparison, "layerwise", "nmse"),
            lambda value: value >= LAYERWISE_NMSE_RATIO,
        ),
        _claim(
            "backward feature correction: feature error of level 2, layerwise over algorithm_1, "
            f"≥ {LAYERWISE_FEATURE_RATIO:g}",
            _ratio(comparison, "layerwise", "feature_error", LOWER_LEVEL),
            lambda value: value >= LAYERWISE_FEATURE_RATIO,
        ),
        _claim(
            f"no kernel and no feature machine on x learns it: nMSE of the best ≥ {KERNELS_STAY_ABOVE:g}",
            best_on_x,
            lambda value: value >= KERNELS_STAY_ABOVE,
        ),
        _claim(
            f"nor the kernel that is given (x, x²−1): nMSE ratio to algorithm_1 ≥ {GIVEN_MAP_NMSE_RATIO:g}",
            _least([_ratio(comparison, cell.label, "nmse") for cell in given]),
            lambda value: value >= GIVEN_MAP_NMSE_RATIO,
        ),
    ]


def _claim(sentence: str, value: float | None, test: Callable[[float], bool]) -> Claim:
    if value is None:
        return Claim(sentence, "no number", holds=False)
    return Claim(sentence, f"{value:.3g}", test(value))


def _nmse(cell: Cell) -> float | None:
    return cell.nmse.median if cell.nmse is not None and not cell.failed else None


def _ratio(comparison: Comparison, label: str, metric: str, level: int | None = None) -> float | None:
    ratio = comparison.ratio(label, "algorithm_1", metric, level)
    return None if ratio is None else ratio.median_ratio


def _least(values: list[float | None]) -> float | None:
    """The smallest; None where one is missing or there is none at all."""
    known = [value for value in values if value is not None]
    return min(known) if known and len(known) == len(values) else None
