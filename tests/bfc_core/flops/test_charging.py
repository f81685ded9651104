"""A run is charged what it would have cost alone, whatever its pack mates, a file or an earlier attempt lent it."""

from pathlib import Path
from typing import Any

import pytest

from bfc_core.checkpoint import CheckpointFolder
from bfc_core.errors import PackInterrupted
from bfc_core.kernels.shared import EigendecompositionFolder
from bfc_core.packing import packs_of, shares_a_gram
from bfc_core.run import execute_pack
from bfc_core.specs import ExperimentSpec, RunSpec
from bfc_core.training.progress import SilentObserver

TARGET = {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.3]}


def runs(*learners: dict[str, Any], **fields: Any) -> list[RunSpec]:
    body = {"name": "x", "target": TARGET, "learners": learners, "n": 64, "dim": 6, "seeds": 1,
            "budget": {"test_samples": 64}}  # fmt: skip
    return ExperimentSpec.model_validate(body | fields).runs()


@pytest.mark.parametrize(
    "learner",
    [
        {"kind": "kernel_ridge", "kernel": {"kind": "ntk"}},
        {"kind": "kernel_ridge", "kernel": {"kind": "ntk"}, "ridges": [1e-3]},
        {"kind": "kernel_ridge", "kernel": {"kind": "laplace"}},
    ],
    ids=str,
)
def test_a_gram_that_was_lent_costs_what_it_costs_to_make(learner: dict[str, Any]) -> None:
    noisy = runs(learner, n=[400, 700], target=TARGET | {"label_noise": 0.1})
    (pack,) = packs_of([*runs(learner, n=[400, 700]), *noisy])
    assert all(shares_a_gram(run, pack) for run in pack)
    for run, report in zip(pack, execute_pack(pack), strict=True):
        assert report.flops == execute_pack([run])[0].flops


@pytest.mark.parametrize(
    "learner",
    [
        {"kind": "kernel_ridge", "kernel": {"kind": "ntk"}},
        {"kind": "empirical_ntk", "width": 16},
        {"kind": "random_features", "count": 600},
        {"kind": "random_features", "features": "fourier", "count": 600},
    ],
    ids=str,
)
def test_an_eigendecomposition_from_a_file_costs_what_it_costs_to_make(
    learner: dict[str, Any], tmp_path: Path
) -> None:
    (run,) = runs(learner, n=520)
    alone = execute_pack([run])[0].flops
    folder = EigendecompositionFolder(tmp_path, 2**30)
    assert execute_pack([run], kernel_cache=folder)[0].flops == alone
    assert list(tmp_path.iterdir())
    assert execute_pack([run], kernel_cache=folder)[0].flops == alone


class StopAfter(SilentObserver):
    def __init__(self, step: int) -> None:
        self.step, self.seen = step, 0

    def progressed(self, step: int, steps: int) -> None:  # noqa: ARG002
        self.seen = step

    def stop_requested(self) -> bool:
        return self.seen >= self.step


@pytest.mark.parametrize("changes", [{}, {"activation": "plateau"}, {"refinement_steps": 0}], ids=str)
def test_a_run_that_was_interrupted_counts_what_it_would_have_uninterrupted(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bfc_core.learners.pack_watch.POLL_SECONDS", 0.0)
    learner = {"kind": "algorithm_1", "batch_size": 32, "width": 8, "steps_per_stage": 200} | changes
    (run,) = runs(learner, n=400)
    whole = execute_pack([run])[0]
    folders: list[Path] = []
    for step in (100, 500, 700):
        folder = CheckpointFolder(tmp_path / str(step), tuple(reversed(folders)), interval_seconds=0)
        folders.append(tmp_path / str(step))
        with pytest.raises(PackInterrupted):
            execute_pack([run], StopAfter(step), checkpoints=folder)
    resumed = execute_pack([run], checkpoints=CheckpointFolder(tmp_path / "last", tuple(reversed(folders))))[
        0
    ]
    assert (resumed.flops, resumed.steps) == (whole.flops, whole.steps)
    assert resumed.flops


def test_a_checkpoint_that_does_not_say_leaves_the_count_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bfc_core.learners.pack_watch.POLL_SECONDS", 0.0)
    (run,) = runs({"kind": "algorithm_1", "batch_size": 32, "width": 8, "steps_per_stage": 200}, n=96)
    save = CheckpointFolder.save

    def earlier(self: CheckpointFolder, step: int, state: dict[str, Any]) -> object:
        state = state | {
            "histories": {
                key: {name: value for name, value in history.items() if name != "flops"}
                for key, history in state["histories"].items()
            },
            "current": {
                name: value for name, value in state["current"].items() if name not in {"made", "looks"}
            },
        }
        return save(self, step, state)

    monkeypatch.setattr(CheckpointFolder, "save", earlier)
    with pytest.raises(PackInterrupted):
        execute_pack([run], StopAfter(250), checkpoints=CheckpointFolder(tmp_path, interval_seconds=0))
    resumed = execute_pack([run], checkpoints=CheckpointFolder(tmp_path))[0]
    assert resumed.flops is None
    assert resumed.steps == execute_pack([run])[0].steps
