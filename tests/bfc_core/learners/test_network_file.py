"""A kept predictor is the predictor: the file alone gives the reported numbers again."""

import json
import pickle

import pytest
import torch
from safetensors import safe_open

from bfc_core.evaluation import measure, pose
from bfc_core.learners.network_file import NAME, NotAPredictorFileError, load_network
from bfc_core.run import execute_pack
from bfc_core.specs import ExperimentSpec, RunSpec

SPEC = {
    "name": "kept",
    "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
    "learners": [{"kind": "algorithm_1"}],
    "n": 64,
    "dim": 6,
    "seeds": 2,
    "budget": {"test_samples": 64, "steps_per_stage": 20, "keep_predictor": True},
}


def runs_of(**changes) -> list[RunSpec]:
    return ExperimentSpec.model_validate(SPEC | changes).runs()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"learners": [{"kind": "algorithm_1", "precision": "float64"}]},
        {"learners": [{"kind": "algorithm_1", "search": {"alphas": [[1, 0.1], [1, 0.3]]}}]},
        {"target": SPEC["target"] | {"task": "classification"}},
    ],
    ids=["plain", "float64", "searched", "classification"],
)
def test_the_file_alone_gives_the_reported_numbers(tmp_path, changes) -> None:
    runs = runs_of(**changes)
    reports = execute_pack(runs, artifacts=tmp_path)
    for number, (run, report) in enumerate(zip(runs, reports, strict=True)):
        assert measure(load_network(tmp_path / str(number) / NAME), pose(run)) == report.metrics
        with safe_open(tmp_path / str(number) / NAME, framework="pt") as file:
            assert RunSpec.model_validate(json.loads(file.metadata()["bfc"])["spec"]) == run


def test_nothing_is_kept_unasked_or_where_there_is_no_network(tmp_path) -> None:
    execute_pack(runs_of(budget={"test_samples": 64, "steps_per_stage": 20}), artifacts=tmp_path)
    execute_pack(
        runs_of(learners=[{"kind": "kernel_ridge", "kernel": {"kind": "polynomial"}}]), artifacts=tmp_path
    )
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_refused(tmp_path) -> None:
    execute_pack(runs_of(), artifacts=tmp_path)
    sound = (tmp_path / "0" / NAME).read_bytes()
    torch.save({"flat": torch.zeros(3)}, tmp_path / "archive")
    for content in (sound[:-1], sound[:100], b"", pickle.dumps({}), (tmp_path / "archive").read_bytes()):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(NotAPredictorFileError):
            load_network(tmp_path / "bad")
