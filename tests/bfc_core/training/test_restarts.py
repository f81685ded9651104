"""Restarts: they leave a local minimum, leave everything else as it was, and say how many they were."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bfc_core.learners.network_file import NAME, load_network
from bfc_core.networks.distilled_densenet import DistilledDenseNet
from bfc_core.run import execute_pack
from bfc_core.seeding import generator_for
from bfc_core.specs import HierarchicalQuadratic, RunSpec, hierarchy_of
from bfc_core.training.lockstep import alone
from bfc_core.training.objective import Objective
from bfc_core.training.refinement import Refinement
from bfc_core.training.restarts import restarted
from tests.bfc_core.training.test_refinement import outputs, problem

STEPS = 60


def far(seed: int, label_noise: float = 0.0):
    """A refinement, a far start, and where it ends from there."""
    refinement, true, _ = problem(label_noise=label_noise)
    refinement = replace(refinement, x=refinement.x[:2000], y=refinement.y[:2000])
    places = refinement.network.places((2, 3))
    start = true.clone()
    start[places] = 0.5 * torch.randn(len(places), generator=generator_for(seed, "init"), dtype=torch.float64)
    return refinement, start, alone(refinement.descent(start, STEPS))


@pytest.mark.parametrize("seed", [0, 9])
def test_a_local_minimum_is_left_for_the_target(seed: int) -> None:
    refinement, start, stuck = far(seed)
    assert alone(refinement.value(stuck)) > 0.1
    found, tried, kept = alone(restarted(refinement, start, stuck, STEPS, 12, seed))
    assert alone(refinement.value(found)) < 1e-20
    assert 1 <= kept == tried <= 12, "it ends where nothing is left to gain"
    again, *numbers = alone(restarted(refinement, start, stuck, STEPS, 12, seed))
    assert torch.equal(found, again)
    assert numbers == [tried, kept]


@pytest.mark.parametrize("seed", [0, 2, 9, 16])
def test_the_rows_with_the_smallest_labels_lead_out_at_once(seed: int) -> None:
    """On a quarter drawn at random these take 2, more than 12, 10 and more than 12 restarts."""
    refinement, start, stuck = far(seed)
    assert alone(refinement.value(stuck)) > 0.1
    found, *numbers = alone(restarted(refinement, start, stuck, STEPS, 1, seed))
    assert numbers == [1, 1]
    assert alone(refinement.value(found)) < 1e-20


def three_levels(seed: int):
    """A refinement of degree 16, a start whose upper two levels are drawn anew, and where it ends from there."""
    target = HierarchicalQuadratic(kind="hierarchical_quadratic", widths=(2, 1, 1), alphas=(1, 0.5, 0.2))
    hierarchy, levels = hierarchy_of(target), (2, 3, 4)
    network = DistilledDenseNet(hierarchy, dim=4, width=2, truncation=None).with_tied(levels)
    generator = generator_for(1, "init")
    lifts = network.draw_lifts(generator)
    true = network.draw_weights(generator, 0.5)
    alphas = {level: torch.tensor(alpha, dtype=torch.float64) for level, alpha in hierarchy.alphas.items()}
    x = torch.randn(2000, 4, generator=generator_for(1, "inputs"), dtype=torch.float64)
    y = outputs(network, true, lifts, alphas, x)
    refinement = Refinement(
        network,
        lifts,
        alphas,
        torch.ones_like(true),
        x,
        y,
        None,
        Objective("huber", delta=0.3),
        levels,
        levels,
    )
    places = network.places((3, 4))
    start = true.clone()
    start[places] = 0.5 * torch.randn(len(places), generator=generator_for(seed, "init"), dtype=torch.float64)
    return refinement, start, alone(refinement.descent(start, STEPS))


def test_the_smallest_sixteenth_leads_out_where_quarters_do_not() -> None:
    """Seven restarts were needed before the third one took fewer rows (docs/decisions/0029)."""
    refinement, start, stuck = three_levels(7)
    assert alone(refinement.value(stuck)) > 1e-3
    found, *numbers = alone(restarted(refinement, start, stuck, STEPS, 3, 7))
    assert numbers == [3, 3]
    assert alone(refinement.value(found)) < 1e-20


def test_a_frozen_level_is_not_drawn_anew() -> None:
    refinement, start, _ = three_levels(8)
    frozen = replace(refinement, trainable=(4,))
    found, tried, _ = alone(restarted(frozen, start, alone(frozen.descent(start, STEPS)), STEPS, 8, 8))
    assert tried == 8
    for level in (2, 3):
        network = refinement.network
        assert torch.equal(network.distilled(found[None], level), network.distilled(start[None], level))


def test_a_refinement_that_was_cut_short_goes_on() -> None:
    refinement, start, _ = far(1)
    short = alone(refinement.descent(start, 3))
    # Labels of one size have no bulk: the first restart draws its rows and begins anew, the second goes on.
    refinement = replace(refinement, offset=torch.zeros_like(refinement.y))
    assert alone(refinement.value(short)) > 1e-6
    found, _, kept = alone(restarted(refinement, start, short, STEPS, 2, 1))
    assert kept > 0
    assert alone(refinement.value(found)) < 1e-20


def test_what_is_solved_is_not_tried_again() -> None:
    refinement, start, found = far(1)
    same, tried, kept = alone(restarted(refinement, start, found, STEPS, 5, 1))
    assert (tried, kept) == (0, 0)
    assert torch.equal(same, found)


def test_a_floor_of_noise_is_no_local_minimum() -> None:
    refinement, start, found = far(1, label_noise=0.3)
    assert alone(refinement.value(found)) > 1e-3
    same, tried, kept = alone(restarted(refinement, start, found, STEPS, 5, 1))
    assert (tried, kept) == (5, 0)
    assert torch.equal(same, found)


@pytest.mark.parametrize("rows", [40, 2000])
def test_none_are_made_where_none_are_wanted_or_a_part_has_too_few_rows(rows: int) -> None:
    refinement, start, stuck = far(0)
    few = replace(refinement, x=refinement.x[:rows], y=refinement.y[:rows])
    same, tried, _ = alone(restarted(few, start, stuck, STEPS, 0 if rows == 2000 else 5, 0))
    assert tried == 0
    assert torch.equal(same, stuck)


@pytest.mark.parametrize("restarts", [0, 2])
def test_the_report_says_how_many_were_tried(restarts: int) -> None:
    spec = RunSpec.model_validate(
        {
            "target": {
                "kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.3], "label_noise": 0.3,
            },
            "learner": {
                "kind": "algorithm_1", "width": 8, "batch_size": 64, "steps_per_stage": 128, "restarts": restarts,
            },
            "n": 800,
            "dim": 6,
            "seed": 3,
            "budget": {"test_samples": 500},
        }
    )  # fmt: skip
    (report,) = execute_pack([spec])
    assert report.selection.get("restarts") == (restarts or None)
    assert report.selection.get("restart_kept") == (0 if restarts else None)
    assert report.steps == 4 * 128, "first-order steps only"


def test_a_refined_network_has_no_truncation_and_an_unrefined_one_has(tmp_path: Path) -> None:
    """Rows beyond B′ would have no fit, and the target's own parameters would be no minimum."""
    spec = {
        "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.3]},
        "n": 800,
        "dim": 5,
        "seed": 3,
        "budget": {"test_samples": 500, "keep_predictor": True},
    }
    recipe = {"kind": "algorithm_1", "width": 8, "batch_size": 64, "steps_per_stage": 512, "truncation": 1}
    runs = [
        RunSpec.model_validate(spec | {"learner": recipe | {"refinement_steps": steps}}) for steps in (0, 200)
    ]
    plain, refined = (
        execute_pack([run], artifacts=tmp_path / str(run.learner.refinement_steps)) for run in runs
    )
    assert plain[0].metrics.nmse > 1e-3
    assert refined[0].metrics.nmse < 1e-12
    kept = {steps: load_network(tmp_path / str(steps) / "0" / NAME).network.truncation for steps in (0, 200)}
    assert kept == {0: 1, 200: None}
