"""A pack of kernel runs: what is finished survives an interruption, and trivial runs are not worth a file each."""

from pathlib import Path

import pytest

from bfc_core.checkpoint import CheckpointFolder
from bfc_core.errors import PackInterrupted
from bfc_core.run import execute_pack
from bfc_core.specs import Report, RunSpec
from bfc_core.training.progress import SilentObserver

SPECS = [
    RunSpec.model_validate(
        {
            "target": {"kind": "staircase"},
            "learner": {"kind": "oracle", "knows": knows},
            "n": 16,
            "dim": 6,
            "seed": seed,
            "budget": {"test_samples": 16},
        }
    )
    for knows in ("constant", "features")
    for seed in range(4)
]


class StopBefore(SilentObserver):
    """Asks to stop once a run has been asked about ``run`` times."""

    def __init__(self, run: int) -> None:
        self.left = run

    def stop_requested(self) -> bool:
        self.left -= 1
        return self.left < 0


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr("bfc_core.checkpoint.time", stopped)
    return stopped


def test_an_interruption_keeps_every_finished_run_and_the_pack_goes_on_from_there(
    tmp_path: Path, clock: Clock
) -> None:
    saved: list[int] = []
    first = CheckpointFolder(tmp_path / "1")
    first.saved = lambda step, _path, _digest: saved.append(step)
    with pytest.raises(PackInterrupted):
        execute_pack(SPECS, StopBefore(3), checkpoints=first)
    assert saved == [3], "trivial runs are saved together, when the pack is stopped"
    second = CheckpointFolder(tmp_path / "2", (tmp_path / "1",))
    resumed = execute_pack(SPECS, checkpoints=second)
    assert _numbers(resumed) == _numbers(execute_pack(SPECS))
    assert not list((tmp_path / "2").glob("*.pt")), "the reports follow at once"


def test_finished_runs_are_saved_once_they_took_a_second(tmp_path: Path, clock: Clock) -> None:
    folder = CheckpointFolder(tmp_path)
    saved: list[int] = []
    folder.saved = lambda step, _path, _digest: saved.append(step)

    class HalfASecondEach(SilentObserver):
        def stop_requested(self) -> bool:
            clock.now += 0.5 if asked.pop(0) else 0.0
            return False

    # The oracle of constants is asked about once a run, before it begins.
    asked = [True] * 4
    execute_pack(SPECS[:4], HalfASecondEach(), checkpoints=folder)
    assert saved == [2]


def _numbers(reports: list[Report]) -> list[object]:
    return [(report.outcome, report.metrics, report.selection) for report in reports]


IMAGES = RunSpec.model_validate(
    {
        "target": {"kind": "staircase"},
        "learner": {"kind": "kernel_ridge", "kernel": {"kind": "myrtle", "image": [4, 4, 1]}},
        "n": 64,
        "dim": 16,
        "seed": 0,
        "budget": {"test_samples": 150},
    }
)


class CancelAt(SilentObserver):
    """Cancels run 0 the ``call``-th time it is asked."""

    def __init__(self, call: int) -> None:
        self.call, self.calls = call, 0
        self.steps: list[int] = []

    def progressed(self, step: int, steps: int) -> None:
        assert 0 <= step <= steps
        self.steps.append(step)

    def cancelled(self) -> frozenset[int]:
        self.calls += 1
        return frozenset({0}) if self.calls >= self.call else frozenset()


def test_a_gram_of_images_and_its_predictions_are_cancelled_between_tiles() -> None:
    """A gram, and the predictions after the fit, are one call each; neither is waited for."""
    whole = CancelAt(10**9)
    (report,) = execute_pack([IMAGES], whole)
    assert report.outcome == "succeeded"
    assert whole.steps == sorted(whole.steps)
    of_the_fit = len(whole.steps)
    assert of_the_fit > 10, "asked many times within the one gram"
    assert whole.calls > of_the_fit + 10, "and many times within the predictions"
    for call in (3, of_the_fit // 2, of_the_fit + 8):
        stopped = CancelAt(call)
        (report,) = execute_pack([IMAGES], stopped)
        assert report.outcome == "cancelled"
        assert stopped.calls == call


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        # Its predictions are numbers, and their squares are none.
        ({"kind": "product", "factors": [{"kind": "polynomial", "degree": 16}] * 8}, "not finite on fresh"),
        (
            {"kind": "ntk", "activation": "quadratic", "depth": 20, "weight_variance": 100.0},
            "the gram holds values that are not finite",
        ),
    ],
)
def test_what_has_no_answer_is_a_divergence_and_no_crash(kernel: dict, said: str) -> None:
    learner = {"kind": "kernel_ridge", "kernel": kernel, "ridges": [1e-300]}
    spec = RunSpec.model_validate(IMAGES.model_dump() | {"learner": learner})
    (report,) = execute_pack([spec])
    assert report.outcome == "diverged"
    assert said in report.message
    assert "step_size" not in report.message
    assert "try larger ridges" not in report.message
