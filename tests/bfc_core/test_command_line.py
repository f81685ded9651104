"""``python -m bfc_core``: one JSON document out, bad specs refused before any work."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bfc_core.__main__ import main

TINY = {
    "name": "tiny",
    "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.2]},
    "inputs": {"kind": "gaussian"},
    "learners": [
        {"kind": "algorithm_1"},
        {"kind": "layerwise"},
        {"kind": "kernel_ridge", "kernel": {"kind": "polynomial", "degree": 2}},
        {"kind": "recursive_feature_machine", "rounds": 2},
    ],
    "n": [64],
    "dim": [6],
    "seeds": [4, 9],
    "budget": {"steps_per_stage": 20, "test_samples": 200},
}


def run(spec: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "spec.json"
    path.write_text(spec)
    return subprocess.run(
        [sys.executable, "-m", "bfc_core", str(path), "--threads", "1"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_spec_becomes_one_document_and_twice_the_same_numbers(tmp_path: Path) -> None:
    first, second = run(json.dumps(TINY), tmp_path), run(json.dumps(TINY), tmp_path)
    assert first.returncode == 0, first.stderr
    document = json.loads(first.stdout)
    rows = document["runs"]
    assert [(row["learner"]["kind"], row["seed"]) for row in rows] == [
        (kind, seed)
        for kind in (
            "algorithm_1",
            "layerwise",
            "matched_compute_control",
            "kernel_ridge",
            "recursive_feature_machine",
        )
        for seed in (4, 9)
    ]
    assert all(row["status"] == "succeeded" and row["metrics"]["nmse"] > 0 for row in rows)
    assert set(rows[0]["metrics"]["feature_error"]) == {"2", "3"}
    assert document["manifest"]["spec"]["budget"]["steps_per_stage"] == 20
    again = json.loads(second.stdout)["runs"]
    assert [row["metrics"] for row in rows] == [row["metrics"] for row in again]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (json.dumps(TINY | {"n": -5}), "#/n: "),
        (json.dumps(TINY | {"learners": [{"kind": "magic"}]}), "magic"),
        (json.dumps(TINY).replace("0.2", "NaN"), "#/target"),
        ("{", "not JSON"),
    ],
)
def test_a_bad_spec_is_refused_in_words(spec: str, words: str, tmp_path: Path) -> None:
    answer = run(spec, tmp_path)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert words in answer.stderr
    assert "nothing was run" in answer.stderr


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "bfc_core", str(tmp_path / "absent.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 2
    assert "absent.json" in answer.stderr


def test_graphs_without_a_gpu_are_refused_before_the_spec_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refusal:
        main([str(tmp_path / "absent.json"), "--cuda-graphs"])
    assert refusal.value.code == 2
    assert "--cuda-graphs needs a GPU, and --device is cpu" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("learner", "options"),
    [
        ({"kind": "feature_map_regression", "degree": 8}, []),
        ({"kind": "linear"}, ["--memory-limit", "0.001"]),
        ({"kind": "joint"}, ["--memory-limit", "0.15"]),
    ],
)
def test_what_does_not_fit_the_machine_is_refused_at_its_learner(
    learner: dict[str, object], options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Products of degree 8 in 500 dimensions would fill any machine, and nothing stops a process from trying."""
    path = tmp_path / "spec.json"
    learners = [{"kind": "oracle", "knows": "constant"}, learner]
    path.write_text(json.dumps(TINY | {"learners": learners, "dim": [500]}))
    assert main([str(path), *options]) == 2
    refusal = capsys.readouterr().err
    assert "#/learners/1: " in refusal
    assert "--memory-limit" in refusal
    assert "nothing was run" in refusal
