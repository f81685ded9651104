"""Specs: what is accepted, what is refused, and what a grid becomes."""

import json

import pytest
from pydantic import ValidationError

from bfc_core.specs import ExperimentSpec, RunSpec

SMALLEST = {
    "name": "smallest",
    "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
    "learners": [{"kind": "algorithm_1"}],
    "n": 64,
    "dim": 6,
}


def spec(**changes: object) -> ExperimentSpec:
    return ExperimentSpec.model_validate_json(json.dumps(SMALLEST | changes))


def test_one_number_is_an_axis_and_a_count_is_a_range_of_seeds() -> None:
    grid = spec(n=64, dim=[6, 8], seeds=3)
    assert (grid.n, grid.dim, grid.seeds) == ((64,), (6, 8), (0, 1, 2))
    assert len(grid.runs()) == 6 == grid.cell_count()


def test_layerwise_brings_its_matched_compute_control() -> None:
    runs = spec(learners=[{"kind": "layerwise", "width": 7}], seeds=[5]).runs()
    assert [run.learner.kind for run in runs] == ["layerwise", "matched_compute_control"]
    assert runs[1].learner.model_dump()["width"] == 7


def test_an_alphas_axis_replaces_the_targets_own() -> None:
    runs = spec(alphas=[[1, 0.3], [1, 0]], seeds=[1]).runs()
    assert [run.target.model_dump()["alphas"] for run in runs] == [(1.0, 0.3), (1.0, 0.0)]


def test_a_spec_survives_its_own_json_and_equal_specs_hash_equal() -> None:
    one = spec(target={"kind": "hierarchical_quadratic", "widths": [3, 2, 1], "alphas": [1, 0.2, 0.05]})
    two = ExperimentSpec.model_validate_json(one.model_dump_json())
    assert one == two
    assert one.content_hash() == two.content_hash() != spec().content_hash()
    assert RunSpec.model_validate_json(one.runs()[0].model_dump_json()) == one.runs()[0]


def test_the_budget_overrides_the_stages() -> None:
    (run,) = spec(budget={"steps_per_stage": 9}, seeds=[0]).runs()
    assert run.learner.model_dump()["steps_per_stage"] == 9


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"n": -4}, ("n", 0)),
        ({"n": 10**12}, ("n", 0)),
        ({"n": "many"}, ("n",)),
        ({"n": True}, ("n",)),
        ({"n": [64, 64]}, ("n",)),
        ({"dim": 0}, ("dim", 0)),
        ({"dim": 1}, ()),
        ({"seeds": 0}, ("seeds",)),
        ({"seeds": [-1]}, ("seeds", 0)),
        ({"learners": []}, ("learners",)),
        ({"learners": [{"kind": "magic"}]}, ("learners", 0)),
        ({"learners": [{"kind": "algorithm_1", "widht": 3}]}, ("learners", 0, "algorithm_1", "widht")),
        (
            {"learners": [{"kind": "algorithm_1", "step_size": -1}]},
            ("learners", 0, "algorithm_1", "step_size"),
        ),
        ({"learners": [{"kind": "joint"}, {"kind": "joint"}]}, ()),
        ({"target": {"kind": "unknown"}}, ("target",)),
        (
            {"target": {"kind": "hierarchical_quadratic", "alphas": [1, 2]}},
            ("target", "hierarchical_quadratic", "alphas"),
        ),
        ({"target": {"kind": "hierarchical_quadratic", "alphas": [1]}}, ("target", "hierarchical_quadratic")),
        (
            {"target": {"kind": "hierarchical_quadratic", "widths": [1, 2]}},
            ("target", "hierarchical_quadratic"),
        ),
        (
            {"target": {"kind": "hierarchical_quadratic", "connections": {"2": [1], "3": [2, 1]}}},
            ("target", "hierarchical_quadratic"),
        ),
        ({"name": ""}, ("name",)),
        ({"name": "a\nb"}, ("name",)),
        ({"surprise": 1}, ("surprise",)),
        ({"alphas": [[1, 0.1, 0.01]]}, ()),
        ({"n": list(range(8, 208)), "dim": list(range(6, 106)), "seeds": 10}, ()),
    ],
)
def test_bad_input_is_refused_where_it_stands(changes: dict[str, object], pointer: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as refusal:
        spec(**changes)
    assert refusal.value.errors()[0]["loc"] == pointer


@pytest.mark.parametrize(
    ("target", "dim"),
    [
        ({"kind": "hierarchical_quadratic", "widths": [3, 1], "alphas": [1, 0.1]}, 2),
        ({"kind": "worked_example_2"}, 3),
        ({"kind": "kernel_hard_instance", "alphas": [1, 0.3, 0.1]}, 7),
    ],
)
def test_a_single_run_too_needs_the_dim_of_its_target(target: dict[str, object], dim: int) -> None:
    run = {"target": target, "learner": {"kind": "joint"}, "n": 64, "seed": 0}
    with pytest.raises(ValidationError, match=f"dim {dim} is too small: this target needs dim ≥ {dim + 1}"):
        RunSpec.model_validate(run | {"dim": dim})
    assert RunSpec.model_validate(run | {"dim": dim + 1}).dim == dim + 1


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(token: str) -> None:
    text = json.dumps(SMALLEST).replace("0.1", token)
    with pytest.raises(ValidationError):
        ExperimentSpec.model_validate_json(text)
