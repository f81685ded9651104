"""Algorithm 1 as written: its formulas, its state machine, and the promises every learner keeps."""

import json
import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from bfc_core.checkpoint import CheckpointFolder
from bfc_core.errors import PackInterrupted
from bfc_core.networks.distilled_densenet import DistilledDenseNet
from bfc_core.packing import packs_of
from bfc_core.run import execute_pack
from bfc_core.seeding import generator_for
from bfc_core.specs import (
    AlgorithmOne,
    ExactMode,
    ExperimentSpec,
    HierarchicalQuadratic,
    Measurement,
    Outcome,
    Report,
    RunSpec,
    hierarchy_of,
)
from bfc_core.theory.algorithm_1 import ExactConstants
from bfc_core.training.exact_regularizer import ExactRegularizer
from bfc_core.training.progress import SilentObserver

HIERARCHY = hierarchy_of(
    HierarchicalQuadratic(kind="hierarchical_quadratic", widths=(3, 2), alphas=(1.0, 0.1))
)
CONSTANTS = ExactConstants(
    HIERARCHY,
    64,
    ExactMode(gap_exponent=2.0, kappa=1.5, activation_prefactor=3.0, distillation_prefactor=1.0),
)


def test_the_constants_are_those_of_theorem_1() -> None:
    assert CONSTANTS.activation(2) == math.inf
    assert CONSTANTS.activation(3) == pytest.approx(3.0 * 1.0 / 64 ** (1 / (3 * 4)))
    assert CONSTANTS.distillation(3) == pytest.approx(0.01 / 64 ** (1 / (6 * 8)))
    assert CONSTANTS.ties(3, (1.0, 2.0, 4.0)) == pytest.approx(
        (0.01 / 64 ** (1 / 48), 0.02 / 64 ** (1 / 24), 0.04 / 64 ** (1 / 16))
    )
    lambda_3, lambda_4, lambda_5 = CONSTANTS.ties(2, (1.0, 1.0, 1.0))
    assert lambda_3 > lambda_4 > lambda_5
    assert CONSTANTS.norm(3, 0.2) == pytest.approx(0.04 / (3 * 3 * 1.5) ** 8)
    assert CONSTANTS.rank_threshold == pytest.approx(1 / 22.5)


def test_the_gradient_of_the_regularizer_agrees_with_autograd() -> None:
    network = DistilledDenseNet(HIERARCHY, dim=5, width=4, truncation=None)
    flat = torch.stack([network.draw_weights(generator_for(seed, "init"), 0.4) for seed in (1, 2)])
    generator = generator_for(3, "test")
    ties, norms = {}, {}
    for level, shape in network.levels.items():
        tie = torch.rand(2, shape.i, shape.i, generator=generator, dtype=torch.float64)
        ties[level] = tie + tie.mT
        norms[level] = torch.rand(2, generator=generator, dtype=torch.float64)
    regularizer = ExactRegularizer(network, ties, norms, weight=3.0)
    leaf = flat.clone().requires_grad_()
    (expected,) = torch.autograd.grad(regularizer.value(leaf).sum(), leaf)
    gradient = torch.zeros_like(flat)
    regularizer.add_gradient(flat, gradient)
    torch.testing.assert_close(gradient, expected)


def pack(exact: dict[str, object] | None = None, **changes: object) -> list[RunSpec]:
    constants: dict[str, object] = {
        "max_steps": 5120,
        "check_every": 64,
        "checked_samples": 200,
        "step_size": 5e-5,
        "noise": 2e-4,
        "accuracy": 1e-3,
        "activation_prefactor": 3.0,
        "distillation_prefactor": 3.0,
    }
    learner = {
        "kind": "algorithm_1",
        "mode": "exact",
        "exact": constants | (exact or {}),
        "width": 6,
        "truncation": 4,
        "precision": "float64",
    }
    fields: dict[str, object] = {
        "name": "tiny",
        "target": {"kind": "hierarchical_quadratic", "widths": [1, 1], "alphas": [1, 0.4]},
        "learners": [learner],
        "n": 400,
        "dim": 3,
        "seeds": [2, 5],
        "budget": {"test_samples": 300},
    }
    (found,) = packs_of(ExperimentSpec.model_validate(fields | changes).runs())
    return found


class Notebook(SilentObserver):
    def __init__(self) -> None:
        self.kept: dict[int, list[Measurement]] = {}

    def measured(self, run, measurements) -> None:
        self.kept.setdefault(run, []).extend(measurements)


def facts(report: Report) -> dict[str, object]:
    return json.loads(report.model_dump_json(exclude={"seconds"}))


def test_levels_open_one_after_another_and_epsilon_only_falls() -> None:
    notebook = Notebook()
    runs = pack({"max_steps": 7040})
    for index, report in enumerate(execute_pack(runs, notebook)):
        assert report.outcome is Outcome.SUCCEEDED
        opened = report.selection
        assert opened["level_2_active_at"] == 0
        order = [
            opened[name]
            for name in (
                "level_2_active_at",
                "level_2_distilled_at",
                "level_3_active_at",
                "level_3_distilled_at",
            )
        ]
        assert order == sorted(order)
        kept = notebook.kept[index]
        epsilons = [m.value for m in kept if m.name == "epsilon_0"]
        assert epsilons == sorted(epsilons, reverse=True)
        stages = list(dict.fromkeys(m.stage for m in kept))
        assert stages == [name for name in stages if name.startswith("level")]
        assert stages[:3] == ["level 2 wide", "level 2 distilled", "level 3 wide"]
        # Every halving of ε₀ divides λ₆ by four.
        norms = [m.value for m in kept if m.name == "objective_lambda_6" and m.level == 2]
        for norm, epsilon in zip(norms, epsilons, strict=True):
            assert norm / norms[0] == pytest.approx((epsilon / epsilons[0]) ** 2)


def test_a_closed_threshold_keeps_a_level_out_and_the_report_says_so() -> None:
    for report in execute_pack(pack({"activation_prefactor": 1e-9, "max_steps": 2560})):
        assert "level 3 was never activated" in report.warnings[0]
        assert report.metrics is not None
        assert set(report.metrics.feature_error) == {2}


def test_packed_equals_solo() -> None:
    runs = pack()
    for run, report in zip(runs, execute_pack(runs), strict=True):
        (alone,) = execute_pack([run])
        assert alone.selection == report.selection
        assert alone.metrics is not None
        assert report.metrics is not None
        assert report.metrics.nmse == pytest.approx(alone.metrics.nmse, rel=1e-9)


class StopAfter(SilentObserver):
    def __init__(self, step: int) -> None:
        self.step, self.seen = step, 0

    def progressed(self, step: int, steps: int) -> None:  # noqa: ARG002 - the protocol has it
        self.seen = step

    def stop_requested(self) -> bool:
        return self.seen >= self.step


@pytest.mark.parametrize("stop", [1, 2500])
def test_resumed_equals_uninterrupted(stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bfc_core.learners.pack_watch.POLL_SECONDS", 0.0)
    runs = pack()
    whole = [facts(report) for report in execute_pack(runs)]
    with pytest.raises(PackInterrupted):
        execute_pack(runs, StopAfter(stop), checkpoints=CheckpointFolder(tmp_path / "1"))
    resumed = execute_pack(runs, checkpoints=CheckpointFolder(tmp_path / "2", (tmp_path / "1",)))
    assert [facts(report) for report in resumed] == whole


def test_too_large_a_step_diverges_with_advice() -> None:
    for report in execute_pack(pack({"step_size": 1.0, "max_steps": 640})):
        assert report.outcome is Outcome.DIVERGED
        assert report.message is not None
        assert "exact.step_size" in report.message
        assert "exact.step_limit" in report.message


def two_levels(limit: str) -> list[RunSpec]:
    constants = {
        "step_size": 1e-3, "step_limit": limit, "noise": 1e-4, "accuracy": 0.2, "max_steps": 12_032,
        "check_every": 256, "activation_prefactor": 12, "distillation_prefactor": 12,
    }  # fmt: skip
    learner = {"kind": "algorithm_1", "mode": "exact", "exact": constants, "width": 6}
    return pack(learners=[learner], n=20_000, dim=4, seeds=[0, 2])


def test_a_limited_step_learns_two_levels_where_a_plain_one_diverges() -> None:
    for report in execute_pack(two_levels("sample")):
        assert report.outcome is Outcome.SUCCEEDED
        assert report.warnings == ()
        assert report.metrics is not None
        assert report.metrics.nmse is not None
        assert report.metrics.nmse < 0.02
        assert "level_3_distilled_at" in report.selection
    plain = execute_pack(two_levels("none"))
    assert {report.outcome for report in plain} == {Outcome.DIVERGED}
    assert max(report.steps for report in plain) < 2000


def test_steps_that_do_not_reach_past_their_sample_are_left_as_they_are() -> None:
    plain, limited = (
        execute_pack(pack({"step_size": 1e-6, "max_steps": 640, "step_limit": limit}))
        for limit in ("none", "sample")
    )
    assert [facts(report) for report in plain] == [facts(report) for report in limited]


def test_an_accuracy_that_is_met_at_once_is_said() -> None:
    for report in execute_pack(pack({"accuracy": 1e6})):
        assert report.steps == 0
        assert "nothing was trained" in report.warnings[0]
    with pytest.raises(ValidationError, match="below the accuracy"):
        ExactMode(accuracy=0.1, initial_accuracy=0.05)


def test_one_level_is_learnt_to_the_accuracy_asked_for() -> None:
    runs = pack(
        {
            "step_size": 1e-4,
            "max_steps": 6400,
            "accuracy": 0.2,
            "noise": 1e-4,
            "distillation_prefactor": 1.0,
        },
        target={"kind": "hierarchical_quadratic", "widths": [1], "alphas": [1]},
        seeds=[3, 8],
    )
    reports = execute_pack(runs)
    # Members end at different steps: the objective is below ε²/4 for the first time.
    assert len({report.steps for report in reports}) == 2
    for report in reports:
        assert report.warnings == ()
        assert report.steps < 6400
        assert report.metrics is not None
        assert report.metrics.nmse is not None
        assert report.metrics.nmse < 0.01
        assert report.selection["rank_level_2"] == 1


def test_classification_runs_in_the_exact_mode_too() -> None:
    runs = pack(
        {"step_size": 1e-3, "noise": 1e-3, "max_steps": 1280},
        target={
            "kind": "hierarchical_quadratic",
            "widths": [1],
            "alphas": [1],
            "task": "classification",
        },
        seeds=[3],
    )
    (report,) = execute_pack(runs)
    assert report.outcome is Outcome.SUCCEEDED
    assert report.metrics is not None
    assert report.metrics.accuracy is not None
    assert report.metrics.accuracy > 0.5


def test_constants_without_the_mode_are_refused() -> None:
    with pytest.raises(ValidationError, match="set mode to 'exact'"):
        AlgorithmOne(kind="algorithm_1", exact=ExactMode())
    assert AlgorithmOne(kind="algorithm_1", mode="exact").constants == ExactMode()


def test_exact_and_practical_runs_are_never_one_pack() -> None:
    practical, exact = (
        run.model_copy(update={"learner": AlgorithmOne(kind="algorithm_1", mode=mode)})
        for run, mode in zip(pack(), ("practical", "exact"), strict=True)
    )
    assert len(packs_of([practical, exact])) == 2
