"""The door: packed equals solo, resumed equals uninterrupted, cancel and divergence are outcomes."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from bfc_core.checkpoint import CheckpointFolder
from bfc_core.errors import PackInterrupted
from bfc_core.kernel_cost import shared_memory_bytes
from bfc_core.kernels.shared import EigendecompositionFolder
from bfc_core.packing import estimate_pack, packs_of, shares_a_gram
from bfc_core.run import execute_pack
from bfc_core.specs import ExperimentSpec, Measurement, Outcome, Report, RunSpec
from bfc_core.training.progress import SilentObserver

HIERARCHICAL = [{"kind": "algorithm_1"}, {"kind": "layerwise"}, {"kind": "joint"}]
SMALL = {"precision": "float64", "batch_size": 32, "width": 8}


def runs(learners: list[dict[str, object]], steps: int = 100, **changes: object) -> list[RunSpec]:
    fields: dict[str, object] = {
        "name": "tiny",
        "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.3]},
        "learners": learners,
        "n": [48, 64],
        "dim": 6,
        "seeds": [3, 8],
        "budget": {"steps_per_stage": steps, "test_samples": 256},
    }
    return ExperimentSpec.model_validate(fields | changes).runs()


def small(kinds: list[dict[str, object]]) -> list[dict[str, object]]:
    return [kind | SMALL for kind in kinds]


def facts(report: Report) -> dict[str, object]:
    return json.loads(report.model_dump_json(exclude={"seconds", "solve_seconds"}))


def close(one: Report, other: Report) -> None:
    assert one.outcome == other.outcome
    assert one.metrics is not None
    assert other.metrics is not None
    assert one.metrics.nmse == pytest.approx(other.metrics.nmse, rel=1e-9)
    assert one.metrics.feature_error == pytest.approx(other.metrics.feature_error, rel=1e-9)


def test_packed_equals_solo_whatever_the_mates() -> None:
    for pack in packs_of(runs(small(HIERARCHICAL))):
        together = execute_pack(pack)
        for run, report in zip(pack, together, strict=True):
            close(report, execute_pack([run])[0])


def test_same_spec_twice_gives_identical_numbers() -> None:
    pack = packs_of(runs([{"kind": "algorithm_1"}, {"kind": "layerwise"}]))[0]
    assert [facts(report) for report in execute_pack(pack)] == [
        facts(report) for report in execute_pack(pack)
    ]


def test_the_control_starts_from_the_layerwise_checkpoint_and_leaves_level_3_out() -> None:
    pack = packs_of(runs(small([{"kind": "layerwise"}]), n=64, seeds=[3]))[0]
    layerwise, control = execute_pack(pack)
    assert [run.learner.kind for run in pack] == ["layerwise", "matched_compute_control"]
    assert layerwise.metrics is not None
    assert control.metrics is not None
    assert set(layerwise.metrics.feature_error) == {2, 3}
    assert set(control.metrics.feature_error) == {2}
    assert layerwise.steps == control.steps == 400


class StopAfter(SilentObserver):
    """Asks the pack to stop once a number of steps is done."""

    def __init__(self, step: int) -> None:
        self.step, self.seen = step, 0

    def progressed(self, step: int, steps: int) -> None:  # noqa: ARG002 - the protocol has it
        self.seen = step

    def stop_requested(self) -> bool:
        return self.seen >= self.step


@pytest.mark.parametrize("stop", [1, 150, 330, 470])
def test_resumed_equals_uninterrupted_to_the_last_bit(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bfc_core.learners.pack_watch.POLL_SECONDS", 0.0)
    pack = packs_of(runs([{"kind": "algorithm_1"}, {"kind": "layerwise"}], n=64))[0]
    whole = execute_pack(pack)
    with pytest.raises(PackInterrupted):
        execute_pack(pack, StopAfter(stop), checkpoints=CheckpointFolder(tmp_path / "1"))
    resumed = execute_pack(pack, checkpoints=CheckpointFolder(tmp_path / "2", (tmp_path / "1",)))
    assert [facts(report) for report in resumed] == [facts(report) for report in whole]


def test_a_torn_checkpoint_is_passed_over(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(1, {"value": 1})
    newest = folder.save(2, {"value": 2})
    newest.write_bytes(newest.read_bytes()[:-7])
    assert folder.load() == {"value": 1}


class CancelFrom(SilentObserver):
    """Cancels some runs from the first question on."""

    def __init__(self, *unwanted: int) -> None:
        self.unwanted = frozenset(unwanted)

    def cancelled(self) -> frozenset[int]:
        return self.unwanted


def test_a_cancelled_run_leaves_its_mates_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bfc_core.learners.pack_watch.POLL_SECONDS", 0.0)
    pack = packs_of(runs(small([{"kind": "joint"}]), n=64))[0]
    kept = execute_pack(pack)[1]
    reports = execute_pack(pack, CancelFrom(0))
    assert reports[0].outcome is Outcome.CANCELLED
    close(reports[1], kept)


def test_divergence_is_an_outcome_with_advice_and_harms_no_mate() -> None:
    wild = {"kind": "joint", "loss": "squared", "step_size": 10, "clip_norm": 1e12, "truncation": None}
    tame, noisy = runs([wild | SMALL], n=64, seeds=[3])[0], runs([wild | SMALL], n=64, seeds=[8])[0]
    reports = execute_pack([tame, noisy])
    assert Outcome.DIVERGED in {report.outcome for report in reports}
    for report, run in zip(reports, (tame, noisy), strict=True):
        assert facts(report)["outcome"] == facts(execute_pack([run])[0])["outcome"]


@pytest.mark.parametrize("kind", ["algorithm_1", "joint", "layerwise"])
def test_finite_parameters_far_off_are_a_divergence(kind: str) -> None:
    pack = packs_of(runs([{"kind": kind, "init_scale": 1e3} | SMALL], n=64, seeds=[3]))[0]
    report = execute_pack(pack)[0]
    assert report.outcome is Outcome.DIVERGED
    assert report.message is not None
    assert "init_scale" in report.message


def test_noise_beyond_learning_is_no_divergence() -> None:
    """Labels are mostly noise, so predictions are wilder than the target; they fit the samples all the same."""
    target = {
        "kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.3], "label_noise": 100,
    }  # fmt: skip
    pack = packs_of(runs([{"kind": "algorithm_1"} | SMALL], n=64, seeds=[3], target=target))[0]
    (report,) = execute_pack(pack)
    assert report.outcome is Outcome.SUCCEEDED
    assert report.metrics is not None
    assert (report.metrics.nmse or 0) > 2


def test_runs_of_different_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="do not share"):
        execute_pack([runs(HIERARCHICAL)[0], runs(HIERARCHICAL, dim=7)[0]])


@pytest.mark.parametrize(
    "example", [{"kind": "worked_example_1"}, {"kind": "worked_example_2", "alpha": 0.01}]
)
def test_the_worked_examples_train_too(example: dict[str, object]) -> None:
    pack = packs_of(runs(small(HIERARCHICAL[:1]), n=64, target=example, seeds=[1]))[0]
    (report,) = execute_pack(pack)
    assert report.outcome is Outcome.SUCCEEDED
    assert report.metrics is not None
    assert set(report.metrics.feature_error) == {2, 3}


def test_kernel_runs_that_share_grams_report_what_they_report_alone(tmp_path: Path) -> None:
    learners: list[dict[str, object]] = [
        {"kind": "kernel_ridge", "kernel": {"kind": "ntk", "depth": 1}},
        {"kind": "kernel_ridge", "kernel": {"kind": "ntk", "depth": 1}, "ridges": [1e-3, 1.0]},
        {"kind": "kernel_ridge", "kernel": {"kind": "rbf"}},
    ]
    pack = runs(learners, alphas=[[1, 0.3], [1, 0.0]], seeds=[3])
    (packed,) = packs_of(pack)
    assert [run.n for run in packed if run.learner.kernel.kind == "ntk"][:4] == [64] * 4, "the largest first"
    assert shares_a_gram(packed[0], packed)
    assert not shares_a_gram(packed[0], packed[:1])
    folder = EigendecompositionFolder(tmp_path, 2**20)
    for _ in range(2):
        for run, report in zip(packed, execute_pack(packed, kernel_cache=folder), strict=True):
            assert facts(report) == facts(execute_pack([run])[0])


def test_a_pack_whose_runs_share_grams_plans_for_what_it_keeps() -> None:
    learner: dict[str, object] = {"kind": "kernel_ridge", "kernel": {"kind": "ntk"}}
    pack = runs([learner], alphas=[[1, 0.3], [1, 0.0]], seeds=[3], n=1000)
    single = estimate_pack(pack[:1]).memory_bytes
    assert estimate_pack(pack).memory_bytes == single + shared_memory_bytes(1000) > single


class Notebook(SilentObserver):
    """Keeps every measurement of every run."""

    def __init__(self) -> None:
        self.kept: dict[int, list[Measurement]] = {}

    def measured(self, run: int, measurements: Sequence[Measurement]) -> None:
        self.kept.setdefault(run, []).extend(measurements)


def test_a_run_is_measured_at_every_stage_boundary_and_says_what_each_stage_changed() -> None:
    notebook = Notebook()
    pack = packs_of(runs(small([{"kind": "layerwise", "tie": "penalty"}]), n=64, seeds=[3], steps=160))[0]
    report = execute_pack(pack, notebook)[0]
    kept = notebook.kept[0]
    steps = {stage: [m.step for m in kept if m.stage == stage] for stage in {m.stage for m in kept}}
    assert {stage: (min(found), max(found)) for stage, found in steps.items()} == {
        "level 2 wide": (0, 80),
        "level 2 distilled": (80, 240),
        "level 3 wide": (240, 320),
        "level 3 distilled": (320, 640),
        "refined": (640, 840),
    }
    by_name = {(m.name, m.level, m.stage, m.step): m.value for m in kept}
    assert len(by_name) == len(kept)
    change = by_name["feature_improvement", 2, "level 2 distilled", 240]
    before, after = (by_name["feature_error", 2, "level 2 distilled", step] for step in (80, 240))
    assert change == pytest.approx(before - after)
    # A frozen level changes no more: its weights are those with which it left its stage.
    assert by_name["feature_improvement", 2, "level 3 distilled", 640] == 0
    assert by_name["weight_cosine", 2, "level 3 distilled", 640] == pytest.approx(1)
    assert {m.name for m in kept} >= {f"objective_lambda_{number}" for number in (3, 4, 5, 6)}
    assert {"objective_data", "level_coefficient", "alignment"} <= {m.name for m in kept}
    assert report.metrics is not None
    for degree, beta in report.metrics.degree_coefficient.items():
        for stage, ends in steps.items():
            for end in (min(ends), max(ends)):
                assert ("degree_coefficient", degree, stage, end) in by_name
        assert by_name["degree_coefficient", degree, "refined", 840] == pytest.approx(beta)
    assert set(report.metrics.degree_coefficient) == {1, 2, 3, 4, 5, 6, 8}
