"""Users' own samples over HTTP, and extreme sizes of learners without levels: planned or refused, never a defect."""

from pathlib import Path

import numpy as np
import pytest

from bfc_core import data_sets
from bfc_core.specs import Array
from tests.service.conftest import Api
from tests.service.test_problems import is_problem

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 3))


def file_in(folder: Path, tmp_path: Path) -> Array:
    np.savez(tmp_path / "mine.npz", x=X, y=X.sum(1))
    return data_sets.add(tmp_path / "mine.npz", folder)


def spec_of(target: Array) -> dict:
    return {
        "name": "mine",
        "target": target.model_dump(mode="json"),
        "inputs": {"kind": "data_set"},
        "learners": [{"kind": "linear"}],
        "n": 20,
        "dim": 3,
        "seeds": 1,
    }


def test_an_array_is_accepted_where_its_file_is_and_refused_where_it_is_not(api: Api, tmp_path: Path) -> None:
    spec = spec_of(file_in(tmp_path / "elsewhere", tmp_path))
    for options in ({"params": {"dry_run": True}}, {}):
        problem = is_problem(api.post(spec, **options), 422)
        (error,) = problem["errors"]
        assert error["pointer"] == "#/target/sha256"
        assert error["code"] == "data_set_unusable"
        assert str(tmp_path) not in error["detail"]
    search = {key: spec[key] for key in ("target", "inputs", "learners", "dim")}
    asked = search | {"name": "n*", "n_min": 8, "n_max": 32, "eps": 0.1, "delta": 0.4, "seeds": 3}
    assert api.client.post("/v1/complexity", json=asked).json()["errors"][0]["pointer"] == "#/target/sha256"
    file_in(api.settings.data_sets_folder, tmp_path)
    assert api.post(spec, params={"dry_run": True}).status_code == 200
    assert api.post(spec).status_code == 202
    assert api.client.post("/v1/complexity", json=asked).status_code == 202


def test_a_file_that_says_otherwise_is_refused(api: Api, tmp_path: Path) -> None:
    target = file_in(api.settings.data_sets_folder, tmp_path)
    problem = is_problem(api.post(spec_of(target.model_copy(update={"rows": 61}))), 422)
    assert "60 rows of 3 numbers" in problem["errors"][0]["detail"]


@pytest.mark.parametrize("sha256", ["0" * 63, "../" * 21 + "0", "G" * 64, "A" * 64])
def test_a_hash_is_a_hash(sha256: str, api: Api, tmp_path: Path) -> None:
    spec = spec_of(file_in(tmp_path, tmp_path))
    spec["target"]["sha256"] = sha256
    assert is_problem(api.post(spec), 422)["errors"][0]["pointer"] == "#/target/sha256"


def test_data_sets_stand_in_the_catalogue(api: Api) -> None:
    for kind in ("array", "images"):
        answer = api.get(f"/v1/targets/{kind}")
        assert answer.status_code == 200, answer.text
        assert answer.json()["theory"] is None


EXTREMES = [
    {"kind": "feature_map_regression", "degree": 8},
    {"kind": "feature_map_regression", "degree": 8, "method": "omp", "most_terms": 5000},
    {"kind": "tensor_decomposition", "components": 64, "degree": 8},
    {"kind": "empirical_ntk", "width": 65_536, "depth": 10},
    {"kind": "random_features", "count": 65_536, "features": "fourier"},
    {"kind": "recursive_feature_machine", "rounds": 50, "feature_map": "quadratic"},
    {"kind": "sequential_kernel", "kernel": {"kind": "rbf"}, "stages": 8},
    {"kind": "nearest_neighbours", "neighbours": [1000]},
    {"kind": "gradient_boosting", "most_trees": 5000, "depths": [20]},
    {"kind": "oracle"},
    {"kind": "one_giant_step", "width": 65_536},
    {"kind": "staged_spectral", "degree": 8},
    {"kind": "forward_lofi", "layers": 4, "filters": 30},
    {"kind": "back_lofi", "layers": 4, "filters": 30, "passes": 20},
    {"kind": "sparse_coding", "atoms": 1024, "nonzero": 256},
    {"kind": "quadratic_network", "widths": [1024, 1024], "batch_size": 65_536},
    {"kind": "linear"},
]


@pytest.mark.parametrize("learner", EXTREMES, ids=lambda learner: learner["kind"])
@pytest.mark.parametrize("n", [8, 1_000_000])
def test_extreme_sizes_are_planned_or_refused_at_the_learner(learner: dict, n: int, api: Api) -> None:
    spec = {
        "name": "extreme",
        "target": {"kind": "harmonic"},
        "learners": [learner],
        "n": n,
        "dim": 4096,
        "seeds": 1,
        "budget": {"test_samples": 200_000},
    }
    answer = api.post(spec, params={"dry_run": True})
    if answer.status_code == 422:
        assert answer.json()["errors"][0]["pointer"] == "#/learners/0"
        return
    assert answer.status_code == 200, answer.text
    assert answer.json()["estimated_seconds"] > 0
    assert api.post(spec).status_code == 202
