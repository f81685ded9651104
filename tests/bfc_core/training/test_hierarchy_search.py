"""Where α and J are not told: the grid, the choice on held-out samples, and what it costs."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from bfc_core.checkpoint import CheckpointFolder
from bfc_core.errors import PackInterrupted
from bfc_core.packing import packs_of
from bfc_core.run import execute_pack
from bfc_core.specs import ExperimentSpec, Measurement, Outcome, RunSpec
from bfc_core.training.progress import SilentObserver


def runs(search: dict[str, object], **changes: object) -> list[RunSpec]:
    learner = {
        "kind": "algorithm_1",
        "search": search,
        "width": 8,
        "batch_size": 64,
        "steps_per_stage": 300,
    }
    fields: dict[str, object] = {
        "name": "tiny",
        "target": {"kind": "hierarchical_quadratic", "widths": [1, 1], "alphas": [1, 0.3]},
        "learners": [learner],
        "n": 600,
        "dim": 4,
        "seeds": [3],
        "budget": {"test_samples": 500},
    }
    return ExperimentSpec.model_validate(fields | changes).runs()


def test_the_right_guess_is_chosen_and_every_guess_is_paid_for() -> None:
    # Without its level 3 the target is out of reach.
    (report,) = execute_pack(runs({"alphas": [[1, 0.0], [1, 0.3]]}))
    assert report.outcome is Outcome.SUCCEEDED
    assert report.selection["alphas"] == "1, 0.3"
    assert report.selection["guesses"] == 2
    assert report.metrics is not None
    assert report.metrics.nmse is not None
    assert report.metrics.nmse < 1e-6
    assert report.steps == 2 * 1200, "the cost of every guess is counted"


def test_a_wrong_connection_is_told_from_the_right_one() -> None:
    # Only level 4's skip to x² − 1 makes this target; the other guess gives it x instead.
    right, wrong = [[1], [2, 0], [3, 1]], [[1], [2, 0], [3, 0]]
    target = {
        "kind": "hierarchical_quadratic",
        "widths": [1, 1, 1],
        "alphas": [1, 0.4, 0.2],
        "connections": {2: [1], 3: [2, 0], 4: [3, 1]},
    }
    (report,) = execute_pack(runs({"connections": [wrong, right]}, target=target, n=1500))
    assert report.selection["connections"] == "2: 1; 3: 2, 0; 4: 3, 1"
    assert report.selection["guesses"] == 2


def test_what_is_not_searched_is_told() -> None:
    (report,) = execute_pack(runs({"alphas": [[1, 0.3]]}))
    assert report.selection["connections"] == "2: 1; 3: 2, 0"
    assert report.selection["guesses"] == 1


def test_a_run_s_choice_does_not_depend_on_its_mates() -> None:
    pack = runs({"alphas": [[1, 0.1], [1, 0.5]]}, seeds=[3, 4])
    assert len(packs_of(pack)) == 1
    for run, report in zip(pack, execute_pack(pack), strict=True):
        (alone,) = execute_pack([run])
        assert alone.selection == report.selection


class CancelAll(SilentObserver):
    def cancelled(self) -> frozenset[int]:
        return frozenset({0})


def test_a_cancelled_search_is_cancelled() -> None:
    (report,) = execute_pack(runs({"alphas": [[1, 0.3]]}), CancelAll())
    assert report.outcome is Outcome.CANCELLED


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({}, "name alphas, connections, or both"),
        ({"alphas": [[1, 0.3, 0.1]]}, "has 3 levels, the target 2"),
        ({"connections": [[[1], [1, 0]]]}, "level 3 must read level 2"),
        ({"alphas": [[1, 2]]}, "must not grow"),
    ],
)
def test_impossible_guesses_are_refused_before_any_work(search: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        runs(search)


class Notebook(SilentObserver):
    """Keeps measurements, and asks to stop once so much of the search is done."""

    def __init__(self, share: float = 2.0) -> None:
        self.share, self.seen = share, 0.0
        self.kept: list[Measurement] = []

    def progressed(self, step: int, steps: int) -> None:
        assert step / steps >= self.seen, "progress never goes back"
        self.seen = step / steps

    def measured(self, run: int, measurements: Sequence[Measurement]) -> None:
        assert run in {0, 1}
        self.kept += measurements

    def stop_requested(self) -> bool:
        return self.seen >= self.share


TWO_WIRINGS = {"alphas": [[1, 0.1], [1, 0.5]], "connections": [[[1], [2, 0]], [[1], [2, 0]]]}


def short(search: dict[str, object], seeds: list[int]) -> list[RunSpec]:
    recipe = {"width": 4, "batch_size": 32, "steps_per_stage": 64, "refinement_steps": 2}
    return runs(search, seeds=seeds, learners=[{"kind": "algorithm_1", "search": search} | recipe])


@pytest.mark.parametrize("share", [0.1, 0.45, 0.8])
def test_an_interrupted_search_goes_on_where_it_was(
    share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bfc_core.learners.pack_watch.POLL_SECONDS", 0.0)
    pack = short(TWO_WIRINGS, [3, 4])
    whole = execute_pack(pack)
    first, second = Notebook(share), Notebook()
    with pytest.raises(PackInterrupted):
        execute_pack(pack, first, checkpoints=CheckpointFolder(tmp_path / "1"))
    resumed = execute_pack(pack, second, checkpoints=CheckpointFolder(tmp_path / "2", (tmp_path / "1",)))
    assert [report.model_dump(exclude={"seconds"}) for report in resumed] == [
        report.model_dump(exclude={"seconds"}) for report in whole
    ]
    guesses = [m for m in (*first.kept, *second.kept) if m.name == "validation_nmse"]
    assert len(guesses) == 2 * 4, "no guess that was done is tried again"


def test_a_search_that_died_between_two_saves_starts_from_its_last_finished_guesses(tmp_path: Path) -> None:
    class Dies(Notebook):
        def measured(self, run: int, measurements: Sequence[Measurement]) -> None:
            super().measured(run, measurements)
            if measurements[0].stage == "guess 3 of 4":
                raise OSError("the machine is gone")

    pack = short(TWO_WIRINGS, [3])
    first, second = Dies(), Notebook()
    with pytest.raises(OSError, match="gone"):
        execute_pack(pack, first, checkpoints=CheckpointFolder(tmp_path / "1"))
    (report,) = execute_pack(pack, second, checkpoints=CheckpointFolder(tmp_path / "2", (tmp_path / "1",)))
    assert [m.stage for m in second.kept if m.name == "validation_nmse"] == ["guess 3 of 4", "guess 4 of 4"]
    assert report.selection == execute_pack(pack)[0].selection


def test_a_search_measures_every_guess_and_the_chosen_network_once() -> None:
    notebook = Notebook()
    (report,) = execute_pack(runs({"alphas": [[1, 0.0], [1, 0.3]]}), notebook)
    series = {name: [m for m in notebook.kept if m.name == name] for name in {m.name for m in notebook.kept}}
    assert [(m.stage, m.step) for m in series["validation_nmse"]] == [
        ("guess 1 of 2", 1200),
        ("guess 2 of 2", 2400),
    ]
    best = [m.value for m in series["best_validation_nmse"]]
    assert best == [series["validation_nmse"][0].value, report.selection["validation_nmse"]]
    assert [(m.stage, m.level) for m in series["feature_error"]] == [("chosen", 2), ("chosen", 3)]
