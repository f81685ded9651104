"""Closed forms of a step against torch's counter on the very step, and of whole runs against what was counted."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bfc_core.flops.networks import NetworkFlops
from bfc_core.networks.distilled_densenet import DistilledDenseNet
from bfc_core.networks.member_arrays import member_rows
from bfc_core.packing import packs_of, planned_flops
from bfc_core.run import execute_pack
from bfc_core.specs import ExperimentSpec, Hierarchy, Outcome, Recipe, RunSpec, hierarchy_of
from bfc_core.specs.targets import default_connections
from bfc_core.training.adam import Adam
from bfc_core.training.lockstep import Lockstep
from bfc_core.training.members import Members, TrainingData
from bfc_core.training.objective import Objective
from bfc_core.training.pack_refinement import refined_with_restarts
from bfc_core.training.refinement import CHUNK, Refinement
from bfc_core.training.schedule import Stage, stages_of
from bfc_core.training.stepping import Steps
from tests.bfc_core.flops.test_counting import MORE
from tests.bfc_core.training.test_lockstep import member

SHORT = {"steps_per_stage": 20, "batch_size": 16, "refinement_steps": 0, "precision": "float64"}
LEARNERS = [
    {"kind": "algorithm_1"},
    {"kind": "algorithm_1", "tie": "penalty"},
    {"kind": "joint"},
    {"kind": "layerwise"},
    {"kind": "layerwise", "head_levels": 1},
    {"kind": "correction_window", "window": 1},
    {"kind": "matched_compute_control"},
]


def target_of(*widths: int, top: list[int] | None = None) -> dict[str, Any]:
    """``top`` are the connections of the highest level."""
    body = {"kind": "hierarchical_quadratic", "widths": widths, "alphas": [1, 0.3, 0.2, 0.1][: len(widths)]}
    if top is None:
        return body
    wiring = default_connections(len(widths))
    return body | {"connections": wiring | {max(wiring): top}}


TWO_LEVELS = target_of(3, 2)
TARGETS = [TWO_LEVELS, target_of(2, 2, 1, top=[3, 1, 0]), target_of(3, 2, 2, 1, top=[4, 2, 0])]


def run_of(learner: dict[str, Any], target: dict[str, Any] | None = None, **fields: Any) -> RunSpec:
    body = {
        "target": target or TWO_LEVELS,
        "learner": SHORT | learner,
        "n": 96,
        "dim": 6,
        "seed": 0,
        "budget": {"test_samples": 100},
    }
    return RunSpec.model_validate(body | fields)


@contextmanager
def counted_by_torch() -> Iterator[FlopCounterMode]:
    with FlopCounterMode(display=False, custom_mapping=MORE) as counter:
        yield counter


def network_and_members(run: RunSpec, members: int) -> tuple[DistilledDenseNet, Members, TrainingData]:
    recipe = run.learner
    assert isinstance(recipe, Recipe)
    network = DistilledDenseNet(hierarchy_of(run.target), run.dim, recipe.width, recipe.truncation)
    generator = torch.Generator().manual_seed(0)
    lifts = [network.draw_lifts(generator) for _ in range(members)]
    flat = member_rows(torch.stack([network.draw_weights(generator, 0.1) for _ in range(members)]))
    return (
        network,
        Members(
            flat,
            {level: torch.stack([lift[level] for lift in lifts]) for level in network.levels},
            {level: torch.ones(members, dtype=torch.float64) for level in network.levels},
            torch.ones_like(flat),
            (0,) * members,
            (0,) * members,
            (run.n,) * members,
        ),
        TrainingData(
            torch.randn(run.n, run.dim, dtype=torch.float64), torch.randn(run.n, dtype=torch.float64)
        ),
    )


@pytest.mark.parametrize("width", [2, 8, 40])
@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("learner", LEARNERS, ids=str)
def test_a_step_of_every_stage_counts_what_torch_counts(
    learner: dict[str, Any], target: dict[str, Any], width: int
) -> None:
    run = run_of(learner | {"width": width}, target)
    recipe, hierarchy = run.learner, hierarchy_of(run.target)
    assert isinstance(recipe, Recipe)
    closed = NetworkFlops(hierarchy, run.dim, width)
    for stage in stages_of(recipe, hierarchy):  # type: ignore[arg-type]
        for members in (1, 3):
            network, pack, data = network_and_members(run, members)
            steps = Steps(
                network.with_tied(stage.tied), pack, data, stage, recipe, Objective.of(recipe, "regression"),
                Adam.fresh(pack.flat),
            )  # fmt: skip
            batches = torch.zeros(2, members, recipe.batch_size, dtype=torch.int64)
            with counted_by_torch() as counter:
                steps.take(batches, [1e-3, 1e-3], None)
            assert counter.get_total_flops() == 2 * members * closed.step(stage, recipe.batch_size), (
                stage.name
            )


@pytest.mark.parametrize("width", [2, 8])
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_a_value_and_a_refinement_count_what_torch_counts(target: dict[str, Any], width: int) -> None:
    # Whole chunks: the rows that fill one up are computed with, and not counted.
    run = run_of({"kind": "algorithm_1", "width": width, "refinement_steps": 5}, target, n=2 * CHUNK)
    recipe, hierarchy = run.learner, hierarchy_of(run.target)
    stage = stages_of(recipe, hierarchy)[-1]  # type: ignore[arg-type]
    closed = NetworkFlops(hierarchy, run.dim, width)
    network, pack, data = network_and_members(run, 1)
    for levels in ((), hierarchy.levels[:1], hierarchy.levels):
        with counted_by_torch() as counter:
            network.with_tied(levels).forward(pack.flat, pack.lifts, pack.alphas, data.x[None], stage.active)
        assert counter.get_total_flops() == closed.value(stage.active, levels, run.n)
    tied = network.with_tied(stage.tied)
    noise = torch.randn(pack.flat.shape, generator=torch.Generator().manual_seed(1), dtype=pack.flat.dtype)
    moved = pack.flat + 0.01 * noise
    y = tied.forward(moved, pack.lifts, pack.alphas, data.x[None], stage.active).output[0]
    refinement = Refinement(
        tied, {level: lift[0] for level, lift in pack.lifts.items()},
        {level: alpha[0] for level, alpha in pack.alphas.items()}, pack.movable[0], data.x, y, None,
        Objective("squared"), stage.active, stage.trainable,
    )  # fmt: skip
    for accepted in (0, 1, 2):
        lockstep = Lockstep([refinement.descent(pack.flat[0], accepted)])
        with counted_by_torch() as counter:
            lockstep.run()
        assert counter.get_total_flops() == closed.refinement(stage, run.n, accepted)
        assert lockstep.flops == [counter.get_total_flops()]


def test_a_refinement_with_restarts_counts_what_torch_counts() -> None:
    """Labels of noise have a floor, so every restart is tried; a sixteenth of the rows is a whole chunk."""
    refinement, flat = member(0, 16 * CHUNK)
    lockstep = Lockstep([refined_with_restarts(refinement, flat, steps=8, restarts=9, seed=0)])
    with counted_by_torch() as counter:
        lockstep.run()
    (result,) = lockstep.results
    assert result is not None
    assert result[1] == 9
    assert lockstep.flops == [counter.get_total_flops()]


@pytest.mark.parametrize("learner", LEARNERS, ids=str)
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_a_plan_expects_what_is_counted(learner: dict[str, Any], target: dict[str, Any]) -> None:
    run = run_of(learner, target)
    (report,) = execute_pack([run])
    assert report.flops == planned_flops(run) > 0


def test_a_plan_expects_what_the_exact_mode_and_a_search_count() -> None:
    exact = {"kind": "algorithm_1", "mode": "exact", "exact": {"max_steps": 256, "checked_samples": 16}}
    run = run_of(exact)
    (report,) = execute_pack([run])
    assert report.flops == pytest.approx(planned_flops(run), rel=0.05), "no level was distilled"
    target = TARGETS[1]
    search = {
        "alphas": [[1, 0.3, 0.2], [1, 0.1, 0.1]],
        "connections": [[[1], [2, 0], [3, 1]], [[1], [2, 0], [3, 1, 0]]],
    }
    run = run_of({"kind": "algorithm_1", "search": search}, target)
    (report,) = execute_pack([run])
    # The wiring of the one prediction is the search's finding.
    assert report.flops == pytest.approx(planned_flops(run), rel=1e-3)
    assert report.flops > 3 * (execute_pack([run_of({"kind": "algorithm_1"}, target)])[0].flops or 0)


def test_a_plan_foresees_a_typical_refinement_and_restarts_are_counted() -> None:
    plain = run_of({"kind": "algorithm_1"}, n=800)
    refined = run_of({"kind": "algorithm_1", "refinement_steps": 40, "restarts": 0}, n=800)
    again = run_of({"kind": "algorithm_1", "refinement_steps": 40, "restarts": 3}, n=800)
    counts = [execute_pack([run])[0].flops or 0 for run in (plain, refined, again)]
    assert counts[0] < counts[1] < counts[2]
    extra = planned_flops(refined) - planned_flops(plain)
    assert extra / 4 < counts[1] - counts[0] < 4 * extra


def test_every_run_is_charged_as_if_alone_also_for_a_beginning_that_was_trained_once() -> None:
    spec = ExperimentSpec.model_validate(
        {
            "name": "arms",
            "target": TWO_LEVELS,
            "learners": [SHORT | {"kind": "layerwise"}, SHORT | {"kind": "algorithm_1"}],
            "n": [96, 128],
            "dim": 6,
            "seeds": 2,
            "budget": {"test_samples": 100},
        }
    )
    (pack,) = packs_of(spec.runs(), max_members=64)
    assert len(pack) == 12
    for run, report in zip(pack, execute_pack(pack), strict=True):
        assert report.flops == execute_pack([run])[0].flops


def test_who_diverges_or_leaves_early_counts_the_steps_until_then_only() -> None:
    wild = {
        "kind": "algorithm_1",
        "steps_per_stage": 400,
        "step_size": 10,
        "clip_norm": 1e12,
        "loss": "squared",
    }
    run = run_of(wild | {"truncation": None, "precision": "float32", "init_scale": 1e10})
    (report,) = execute_pack([run])
    assert report.outcome is Outcome.DIVERGED
    assert 0 < report.steps < 1600
    assert 0 < (report.flops or 0) < 0.7 * planned_flops(run)
    mates = execute_pack([run, run.model_copy(update={"seed": 1})])
    assert (mates[0].steps, mates[0].flops) == (report.steps, report.flops)

    patient = {
        "kind": "algorithm_1",
        "activation": "plateau",
        "plateau_patience": 0.2,
        "steps_per_stage": 640,
    }
    run = run_of(patient | {"plateau_tolerance": 0.5})
    (report,) = execute_pack([run])
    assert 0 < report.steps < 4 * 640
    whole = planned_flops(run)
    assert 0.1 * whole < (report.flops or 0) < 1.2 * whole


def test_a_stage_knows_its_parameters() -> None:
    told = Hierarchy({2: 3, 3: 2}, {2: 1.0, 3: 0.1}, {2: (1,), 3: (2, 0)}, 1.0)
    closed = NetworkFlops(told, dim=6, width=8)
    wide = Stage("level 2 wide", (2,), (), (2,), 10)
    # M = WᵀW, M h, the sum of its terms, then W's gradient through the form: i = 6, m = 8, b = 5.
    assert closed.step(wide, 5) == 2 * (6 * 8 * 6 + 6 * 6 * 5 + 6 * 5 + 6 * 5 * 6 + 8 * 6 * 6)
    assert closed.parameters((2, 3)) == 3 * 6 + 2 * (6 + 6)
