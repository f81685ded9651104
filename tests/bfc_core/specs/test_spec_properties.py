"""What holds for every spec: one canonical text, one hash, a grid that is counted right, packs that lose no run."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bfc_core.packing import packs_of
from bfc_core.specs import ExperimentSpec, RunSpec

LEARNERS = [
    {"kind": "algorithm_1"},
    {"kind": "joint", "width": 4},
    {"kind": "joint", "step_size": 3e-3},
    {"kind": "layerwise"},
    {"kind": "kernel_ridge", "kernel": {"kind": "rbf"}},
    {"kind": "kernel_ridge", "kernel": {"kind": "polynomial", "degree": 2}},
    {"kind": "recursive_feature_machine"},
]


@st.composite
def bodies(draw: st.DrawFn) -> dict:
    widths = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3).map(falling))
    alpha = st.floats(0.01, 1, allow_nan=False)
    return {
        "name": draw(st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=20)),
        "target": {
            "kind": "hierarchical_quadratic",
            "widths": widths,
            "alphas": draw(st.lists(alpha, min_size=len(widths), max_size=len(widths)).map(falling)),
        },
        "learners": draw(st.lists(st.sampled_from(LEARNERS), min_size=1, max_size=4, unique_by=repr)),
        "n": draw(
            st.one_of(st.integers(8, 512), st.lists(st.integers(8, 512), min_size=1, max_size=3, unique=True))
        ),
        "dim": draw(st.lists(st.integers(12, 20), min_size=1, max_size=2, unique=True)),
        "seeds": draw(
            st.one_of(st.integers(1, 4), st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True))
        ),
    }


def falling(values: list) -> list:
    return sorted(values, reverse=True)


@settings(max_examples=30, deadline=None)
@given(body=bodies())
def test_a_spec_has_one_text_and_one_hash_however_it_is_written(body: dict) -> None:
    spec = ExperimentSpec.model_validate(body)
    again = ExperimentSpec.model_validate_json(spec.canonical_json())
    assert again == spec
    assert again.content_hash() == spec.content_hash()
    shuffled = list(body.items())
    random.Random(0).shuffle(shuffled)
    assert ExperimentSpec.model_validate(dict(shuffled)).content_hash() == spec.content_hash()
    assert json.loads(spec.canonical_json())["seeds"] == list(spec.seeds), "defaults and counts are resolved"


@settings(max_examples=30, deadline=None)
@given(body=bodies())
def test_the_grid_is_counted_right_and_packs_hold_every_run_once(body: dict) -> None:
    spec = ExperimentSpec.model_validate(body)
    runs = spec.runs()
    assert len(runs) == spec.cell_count() == len(set(runs))
    packed = [run for pack in packs_of(runs) for run in pack]
    assert sorted(map(id, packed)) == sorted(map(id, runs))
    for run in runs:
        assert RunSpec.model_validate_json(run.canonical_json()) == run


@settings(max_examples=30, deadline=None)
@given(body=bodies(), data=st.data())
def test_another_value_anywhere_is_another_hash(body: dict, data: st.DataObject) -> None:
    spec = ExperimentSpec.model_validate(body)
    changes = {
        "name": spec.name + "x",
        "n": (*spec.n, 513),
        "dim": (*spec.dim, 21),
        "seeds": (*spec.seeds, 100),
    }
    field = data.draw(st.sampled_from(sorted(changes)))
    changed = ExperimentSpec.model_validate(body | {field: changes[field]})
    assert changed.content_hash() != spec.content_hash()


@settings(max_examples=30, deadline=None)
@given(body=bodies(), data=st.data())
def test_an_unknown_field_is_refused_wherever_it_stands(body: dict, data: st.DataObject) -> None:
    copy = json.loads(json.dumps(body))
    place = data.draw(st.sampled_from([copy, copy["target"], copy["learners"][0]]))
    place["surprise"] = 1
    with pytest.raises(ValidationError, match="surprise"):
        ExperimentSpec.model_validate(copy)
