"""A record holds what was asked, what was found, and a figure of it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bfc_core.reproductions.measures import exponent, finished_share, median_of, nmse
from bfc_core.reproductions.preset import Expectation, Reproduction
from bfc_core.specs import ExperimentSpec
from worker.records import main, write_record

LEARNERS = [
    {"kind": "algorithm_1", "width": 4, "batch_size": 32},
    {"kind": "kernel_ridge", "kernel": {"kind": "polynomial", "degree": 2}},
]
SPEC = ExperimentSpec.model_validate(
    {
        "name": "tiny",
        "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
        "learners": LEARNERS,
        "n": [32, 64],
        "dim": 6,
        "seeds": 2,
        "budget": {"steps_per_stage": 64, "test_samples": 200},
    }
)
PRESET = Reproduction(
    name="tiny",
    shows="Nothing.",
    source="none",
    experiments={"role": SPEC},
    expectations=(
        Expectation("share of runs that succeeded", 1, 1, finished_share),
        Expectation("nMSE of algorithm_1", None, 1e-9, median_of("role", "algorithm_1", nmse)),
        Expectation("exponent", 0, 1, exponent("role", "algorithm_1", 0.1, 0.2)),
    ),
    figure="comparison",
    of="role",
)


@pytest.mark.parametrize("figure", ["comparison", "feature-error", "complexity", "stages", "alpha-slope"])
def test_a_record_is_complete_and_honest(tmp_path: Path, figure: str):
    heard: list[str] = []
    write_record(replace(PRESET, figure=figure), tmp_path, heard.append)
    (place,) = tmp_path.iterdir()
    assert place.name.endswith("-tiny")
    result = json.loads((place / "result.json").read_text())
    assert [finding["holds"] for finding in result["findings"]] == [True, False, False]
    assert result["findings"][2]["found"] is None
    assert len(result["runs"]) == 8
    assert result["runs"][0]["metrics"]["nmse"] > 1e-9
    assert result["versions"]["torch"]
    assert json.loads((place / "spec.json").read_text())["role"]["budget"]["test_samples"] == 200
    page = (place / "README.md").read_text()
    assert "| exponent | 0 to 1 | no number | **no** |" in page
    drawing = (place / "figure.svg").read_text()
    assert drawing.startswith("<svg")
    assert ("level 3 distilled" in drawing) is (figure == "stages")
    assert any("pack 1/" in line for line in heard)


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        main(["nope"])
    assert "bfc-algorithm-1" in capsys.readouterr().err
