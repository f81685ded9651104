"""A child keeps eigendecompositions between packs, and only where the deployment lets it."""

import json
from multiprocessing import Pipe
from pathlib import Path

import pytest

from bfc_core.specs import RunSpec
from worker.child import PipeObserver, _train
from worker.child_job import ChildJob


def job(folder: Path, limit: int) -> ChildJob:
    run = RunSpec.model_validate(
        {
            "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
            "learner": {"kind": "kernel_ridge", "kernel": {"kind": "ntk", "depth": 1}},
            "n": 520,
            "dim": 6,
            "seed": 1,
            "budget": {"test_samples": 50},
        }
    )
    return ChildJob(
        specs=[run.model_dump(mode="json")],
        device="cpu",
        threads=1,
        folder=str(folder / "checkpoints"),
        earlier=[],
        log=str(folder / "log"),
        result=str(folder / "result.json"),
        artifacts=str(folder / "artifacts"),
        checkpoint_interval_seconds=60,
        pack_memory_limit_bytes=2**30,
        kernel_cache=str(folder / "kernel-cache"),
        kernel_cache_limit_bytes=limit,
    )


@pytest.mark.parametrize(("limit", "files"), [(2**24, 1), (0, 0)])
def test_the_cache_holds_what_its_limit_allows(tmp_path: Path, limit: int, files: int) -> None:
    answers = []
    for _ in range(2):
        upper, lower = Pipe()
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        for old in (tmp_path / "checkpoints").iterdir():
            old.unlink()
        asked = job(tmp_path, limit)
        specs = [RunSpec.model_validate(spec) for spec in asked.specs]
        _train(asked, specs, PipeObserver(lower, None))
        upper.close()
        report = json.loads(json.loads((tmp_path / "result.json").read_text())["reports"][0])
        answers.append(report["metrics"])
    assert len(list(tmp_path.glob("kernel-cache/*.eigh"))) == files
    assert answers[0] == answers[1]
