"""Every preset. Settings are small enough for two cores; measured values stand in docs/records.

The tolerances leave room for other machines and seeds, not for another outcome: each one is the claim.
"""

from bfc_core.reproductions.baseline_presets import BASELINE_PRESETS
from bfc_core.reproductions.complexity_presets import COMPLEXITY_PRESETS
from bfc_core.reproductions.correction_presets import CORRECTION_PRESETS
from bfc_core.reproductions.label_presets import LABEL_PRESETS
from bfc_core.reproductions.preset import Reproduction

REPRODUCTIONS: dict[str, Reproduction] = {
    preset.name: preset
    for preset in (*CORRECTION_PRESETS, *COMPLEXITY_PRESETS, *LABEL_PRESETS, *BASELINE_PRESETS)
}
"""By name, in the order of the documentation."""
