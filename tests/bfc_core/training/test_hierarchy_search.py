"""Where α and J are not told: the grid, the choice on held-out samples, and what it costs."""

import pytest
from pydantic import ValidationError

from bfc_core.packing import packs_of
from bfc_core.run import execute_pack
from bfc_core.specs import ExperimentSpec, Outcome, RunSpec
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
