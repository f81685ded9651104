"""Stages that end when they have taught what they can: who leaves when, packed or alone, resumed or not."""

from pathlib import Path

import pytest
import torch

from bfc_core.checkpoint import CheckpointFolder
from bfc_core.errors import PackInterrupted
from bfc_core.packing import packs_of
from bfc_core.run import execute_pack
from bfc_core.specs import ExperimentSpec, Measurement, Outcome, Report, RunSpec
from bfc_core.training.plateau import Plateau
from bfc_core.training.progress import SilentObserver

# Patience is a share of the stage: short enough here that members really leave, and at different steps.
PLATEAU = {
    "kind": "algorithm_1",
    "activation": "plateau",
    "plateau_patience": 0.2,
    "plateau_tolerance": 0.02,
    "precision": "float64",
    "batch_size": 16,
    "width": 6,
    "steps_per_stage": 600,
}


def pack(**changes: object) -> list[RunSpec]:
    fields: dict[str, object] = {
        "name": "tiny",
        "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.3]},
        "learners": [PLATEAU],
        "n": 128,
        "dim": 6,
        "seeds": [3, 8],
        "budget": {"test_samples": 256},
    }
    (found,) = packs_of(ExperimentSpec.model_validate(fields | changes).runs())
    return found


def numbers(report: Report) -> Report:
    return report.model_copy(update={"seconds": 0.0})


class Notebook(SilentObserver):
    def __init__(self) -> None:
        self.kept: dict[int, list[Measurement]] = {}

    def measured(self, run, measurements) -> None:
        self.kept.setdefault(run, []).extend(measurements)


def test_a_member_leaves_after_its_patience_and_stays_away() -> None:
    plateau = Plateau.fresh(2)
    assert not plateau.look(torch.tensor([1.0, 1.0]), 10, patience=20, tolerance=0.1).any()
    assert not plateau.look(torch.tensor([0.95, 0.5]), 20, patience=20, tolerance=0.1).any()
    assert plateau.look(torch.tensor([0.95, 0.3]), 30, patience=20, tolerance=0.1).tolist() == [True, False]
    assert not plateau.look(torch.tensor([0.0, 0.1]), 40, patience=20, tolerance=0.1).any()
    plateau.close(45)
    assert plateau.taken.tolist() == [30, 45]


def test_what_is_not_finite_is_no_improvement() -> None:
    plateau = Plateau.fresh(1)
    for step in (10, 20, 30):
        left = plateau.look(torch.tensor([float("nan")]), step, patience=30, tolerance=0.1)
    assert left.tolist() == [True]


def test_members_leave_at_different_steps_and_packed_equals_solo() -> None:
    runs = pack()
    notebook = Notebook()
    together = execute_pack(runs, notebook)
    assert len({report.steps for report in together}) > 1
    assert all(report.steps < 2400 for report in together)
    for index, (run, report) in enumerate(zip(runs, together, strict=True)):
        alone = Notebook()
        (single,) = execute_pack([run], alone)
        assert single.outcome is Outcome.SUCCEEDED is report.outcome
        assert single.steps == report.steps
        assert single.metrics is not None
        assert report.metrics is not None
        assert report.metrics.nmse == pytest.approx(single.metrics.nmse, rel=1e-9)
        assert [(m.name, m.step, m.stage) for m in alone.kept[0]] == [
            (m.name, m.step, m.stage) for m in notebook.kept[index]
        ]


class StopAfter(SilentObserver):
    def __init__(self, step: int) -> None:
        self.step, self.seen = step, 0

    def progressed(self, step: int, steps: int) -> None:  # noqa: ARG002 - the protocol has it
        self.seen = step

    def stop_requested(self) -> bool:
        return self.seen >= self.step


@pytest.mark.parametrize("stop", [200, 700])
def test_a_plateau_survives_an_interruption(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bfc_core.learners.pack_watch.POLL_SECONDS", 0.0)
    runs = pack()
    whole = [numbers(report) for report in execute_pack(runs)]
    with pytest.raises(PackInterrupted):
        execute_pack(runs, StopAfter(stop), checkpoints=CheckpointFolder(tmp_path / "1"))
    resumed = execute_pack(runs, checkpoints=CheckpointFolder(tmp_path / "2", (tmp_path / "1",)))
    assert [numbers(report) for report in resumed] == whole


def test_classification_beats_the_sign_of_the_offset() -> None:
    target = {
        "kind": "hierarchical_quadratic",
        "widths": [2],
        "alphas": [1],
        "task": "classification",
    }
    learner = {"kind": "algorithm_1", "batch_size": 64, "width": 8, "steps_per_stage": 300}
    runs = pack(target=target, learners=[learner], n=1000, budget={"test_samples": 2000})
    for report in execute_pack(runs):
        assert report.metrics is not None
        assert report.metrics.accuracy is not None
        # The offset alone is right on two thirds to three quarters of the rows.
        assert report.metrics.accuracy > 0.9
        assert report.metrics.feature_error_scale_free[2] is not None
        assert report.metrics.feature_error_scale_free[2] < 0.05
