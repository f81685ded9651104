"""Which budgets count as unequal, and how many settings a run has tried."""

from typing import Any

import pytest

from bfc_core.specs import RunSpec
from bfc_core.statistics.budgets import Spent, trials_of, unequal_budgets
from bfc_core.statistics.comparison import summarise

EQUAL = {"steps": 100.0, "flops": 1e9, "seconds": 10.0, "trials": 4.0}


def spent(**changes: float | None) -> Spent:
    values = EQUAL | changes
    return Spent(**{name: summarise([] if value is None else [value] * 3) for name, value in values.items()})


@pytest.mark.parametrize(
    ("changes", "unequal"),
    [
        ({}, ()),
        ({"steps": 109.0, "flops": 0.92e9, "seconds": 19.0}, ()),
        ({"steps": 112.0}, ("steps",)),
        ({"flops": 0.8e9}, ("flops",)),
        ({"seconds": 4.0, "trials": 5.0}, ("trials", "seconds")),
        ({"steps": 0.0}, ("steps",)),
        ({"flops": None, "trials": None}, ()),
    ],
)
def test_budgets_are_unequal_beyond_a_tolerance_in_either_direction(
    changes: dict[str, float | None], unequal: tuple[str, ...]
) -> None:
    assert unequal_budgets(spent(**changes), spent()) == unequal
    assert unequal_budgets(spent(), spent(**changes)) == unequal


@pytest.mark.parametrize(
    ("learner", "selection", "trials"),
    [
        ({"kind": "linear"}, {"candidates_tried": 29}, 29),
        ({"kind": "back_lofi"}, {"networks_tried": 3}, 3),
        ({"kind": "algorithm_1", "search": {"alphas": [[1, 0.1], [1, 1]]}}, {"guesses": 2}, 2),
        ({"kind": "joint"}, {"is_refined": True}, 1),
        (
            {"kind": "recursive_feature_machine", "bandwidths": [1, 2, 3], "ridges": [0.1, 1]},
            {"rounds": 4},
            6,
        ),
    ],
)
def test_trials_are_those_that_the_learner_names(
    learner: dict[str, Any], selection: dict[str, Any], trials: int
) -> None:
    target = {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]}
    run = RunSpec.model_validate({"target": target, "learner": learner, "n": 64, "dim": 6, "seed": 0})
    assert trials_of(run, selection) == trials
