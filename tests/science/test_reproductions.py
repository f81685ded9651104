"""Presets hold on other seeds and dims than their own, and the hierarchy is learned under every input law."""

from statistics import median

import pytest

from bfc_core.reproductions.preset import Evidence
from bfc_core.reproductions.presets import REPRODUCTIONS
from bfc_core.reproductions.runner import run_experiment
from bfc_core.specs import ExperimentSpec

pytestmark = [pytest.mark.science, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("name", "dim", "seeds"),
    [
        ("bfc-matched-control", 11, (41, 42, 43)),
        ("agnostic-floor", 10, (51, 52, 53)),
        ("kernel-lower-bound", 15, (61, 62, 63)),
        ("matched-control-two-layers", 18, tuple(range(3001, 3012))),
    ],
)
def test_a_preset_holds_on_other_seeds_and_another_dim(name: str, dim: int, seeds: tuple[int, ...]) -> None:
    preset = REPRODUCTIONS[name]
    evidence: Evidence = {
        role: run_experiment(
            ExperimentSpec.model_validate(spec.model_dump() | {"dim": [dim], "seeds": list(seeds)})
        )
        for role, spec in preset.experiments.items()
    }
    missed = [
        f"{finding.sentence}: {finding.found} (expected {finding.expected})"
        for finding in preset.check(evidence)
        if not finding.holds
    ]
    assert not missed


@pytest.mark.parametrize(
    ("inputs", "kappa"),
    [
        ({"kind": "correlated_gaussian", "condition_number": 4}, 1.0),
        ({"kind": "gaussian_mixture", "components": 3, "condition_number": 4}, 1.0),
        ({"kind": "gaussian"}, 1.5),
    ],
    ids=["correlated", "mixture", "kappa"],
)
def test_the_hierarchy_is_learned_under_every_law_and_conditioning(
    inputs: dict[str, object], kappa: float
) -> None:
    spec = ExperimentSpec.model_validate(
        {
            "name": "laws",
            "target": {
                "kind": "hierarchical_quadratic",
                "widths": [2, 1],
                "alphas": [1, 0.2],
                "kappa": kappa,
            },
            "inputs": inputs,
            "learners": [{"kind": "joint", "width": 20, "batch_size": 256, "steps_per_stage": 2000}],
            "n": 4000,
            "dim": 10,
            "seeds": [71, 72, 73],
        }
    )
    metrics = [trained.row.metrics for trained in run_experiment(spec)]
    assert median(each.nmse for each in metrics if each is not None and each.nmse is not None) < 1e-2
    assert median(each.feature_error[2] or 0.0 for each in metrics if each is not None) < 1e-2
