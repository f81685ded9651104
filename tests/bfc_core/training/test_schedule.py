"""Who trains what when, and the schedules that must be one and the same."""

import pytest

from bfc_core.run import execute_pack
from bfc_core.specs import (
    AlgorithmOne,
    CorrectionWindow,
    ExperimentSpec,
    HierarchicalQuadratic,
    Joint,
    Layerwise,
    Report,
    RunSpec,
    control_of,
    hierarchy_of,
)
from bfc_core.training.schedule import stages_of

HIERARCHY = hierarchy_of(
    HierarchicalQuadratic(kind="hierarchical_quadratic", widths=(2, 2, 1), alphas=(1.0, 0.3, 0.1))
)
SMALL = {"precision": "float64", "batch_size": 32, "width": 8, "steps_per_stage": 40}


def runs(*learners: dict[str, object], widths: tuple[int, ...] = (2, 1)) -> list[RunSpec]:
    return ExperimentSpec.model_validate(
        {
            "name": "tiny",
            "target": {
                "kind": "hierarchical_quadratic",
                "widths": widths,
                "alphas": [1, 0.3, 0.1][: len(widths)],
            },
            "learners": [learner | SMALL for learner in learners],
            "n": 64,
            "dim": 6,
            "seeds": [3],
            "budget": {"test_samples": 256},
        }
    ).runs()


def alone(run: RunSpec) -> Report:
    return execute_pack([run])[0].model_copy(update={"seconds": 0.0})


def test_a_window_of_nothing_is_layerwise_and_an_unlimited_one_algorithm_1() -> None:
    window = CorrectionWindow(kind="correction_window")
    assert stages_of(window, HIERARCHY) == stages_of(AlgorithmOne(kind="algorithm_1"), HIERARCHY)
    none = window.model_copy(update={"window": 0})
    assert stages_of(none, HIERARCHY) == stages_of(Layerwise(kind="layerwise"), HIERARCHY)
    one, two = (window.model_copy(update={"window": b}) for b in (1, 2))
    assert [stage.trainable for stage in stages_of(one, HIERARCHY)[2:]] == 2 * [(2, 3)] + 3 * [(3, 4)]
    assert stages_of(two, HIERARCHY) == stages_of(window, HIERARCHY)


@pytest.mark.parametrize(("window", "kind"), [(None, "algorithm_1"), (0, "layerwise"), (1, "algorithm_1")])
def test_the_equality_holds_at_the_door_too(window: int | None, kind: str) -> None:
    mine, other = runs({"kind": "correction_window", "window": window}, {"kind": kind})[::2]
    assert other.learner.kind == kind
    assert alone(mine) == alone(other)


def test_every_schedule_takes_the_same_number_of_steps() -> None:
    layerwise = Layerwise(kind="layerwise", steps_per_stage=7, head_levels=2)
    learners = [
        AlgorithmOne(kind="algorithm_1", steps_per_stage=7),
        Joint(kind="joint", steps_per_stage=7),
        CorrectionWindow(kind="correction_window", window=1, steps_per_stage=7),
        layerwise,
        control_of(layerwise),
    ]
    assert {sum(stage.steps for stage in stages_of(each, HIERARCHY)) for each in learners} == {42 + 200}


def test_the_control_shares_the_greedy_start_and_is_added_once() -> None:
    spec = runs({"kind": "layerwise"}, {"kind": "correction_window", "window": 1})
    assert [run.learner.kind for run in spec] == ["layerwise", "matched_compute_control", "correction_window"]
    control = stages_of(control_of(Layerwise(kind="layerwise")), HIERARCHY)
    assert control[:2] == stages_of(Layerwise(kind="layerwise"), HIERARCHY)[:2]
    assert {stage.active for stage in control} == {(2,)}


def test_a_deeper_head_is_thrown_away() -> None:
    head = Layerwise(kind="layerwise", head_levels=1)
    stages = stages_of(head, HIERARCHY)
    assert stages[1].trainable == (2, 3) == stages[1].active
    assert stages[2].resets == (3,)
    assert stages[2].trainable == (3,) == stages[2].trainable
    assert stages[-1].active == (2, 3, 4)
    assert stages[-1].trainable == (4,)
    linear, deep = runs({"kind": "layerwise"}, {"kind": "layerwise", "head_levels": 1}, widths=(2, 1, 1))[::2]
    assert deep.learner == deep.learner.model_copy(update={"head_levels": 1})
    one, other = alone(linear), alone(deep)
    assert one.metrics is not None
    assert other.metrics is not None
    assert one.metrics.feature_error[2] != other.metrics.feature_error[2]
