"""Presets: their specs, their measures on runs with known numbers, and the program that runs them."""

import json
import math

import pytest

from bfc_core.packing import packs_of
from bfc_core.reproductions import __main__ as program
from bfc_core.reproductions.measures import (
    alpha_slope,
    at_end_of,
    at_start_of,
    at_the_end,
    censored_share,
    feature_error,
    finished_share,
    improvement,
    least_of,
    median_of,
    nmse,
    ratio,
)
from bfc_core.reproductions.preset import Evidence, Expectation, Reproduction, Trained
from bfc_core.reproductions.presets import REPRODUCTIONS
from bfc_core.reproductions.runner import run_reproduction
from bfc_core.specs import ExperimentSpec, Measurement, Metrics
from bfc_core.statistics.aggregation import Row

TINY = {
    "name": "tiny",
    "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
    "learners": [{"kind": "algorithm_1", "width": 4, "batch_size": 32}, {"kind": "layerwise", "width": 4}],
    "n": 64,
    "dim": 6,
    "seeds": 3,
    "budget": {"steps_per_stage": 64, "test_samples": 200},
}


def evidence(alphas: tuple[float, ...] = (0.03, 0.1, 0.3)) -> Evidence:
    """Level-2 error 0.2 α² (seed + 1) before correction and a fifth of it after; layerwise is ten times worse."""
    spec = ExperimentSpec.model_validate(TINY | {"alphas": [[1, alpha] for alpha in alphas]})
    runs = []
    for run in spec.runs():
        assert run.target.kind == "hierarchical_quadratic"
        forward = 0.2 * run.target.alphas[1] ** 2 * (run.seed + 1)
        after = forward / 5 * (1 if run.learner.kind == "algorithm_1" else 10)
        measured = [
            Measurement(name="feature_error", step=1, stage="level 2 distilled", level=2, value=9.0),
            Measurement(name="feature_error", step=2, stage="level 2 distilled", level=2, value=forward),
            Measurement(name="nmse", step=2, stage="level 2 distilled", value=7.0),
        ]
        metrics = Metrics(nmse=after, feature_error={2: after})
        runs.append(Trained(Row(run, "succeeded", metrics, 1.0), measured))
    return {"role": runs}


def test_every_preset_has_expectations_and_experiments_named_after_it() -> None:
    for name, preset in REPRODUCTIONS.items():
        assert preset.name == name
        assert len(preset.expectations) >= 2
        assert preset.of in preset.experiments
        for role, spec in preset.experiments.items():
            assert spec.name == f"reproduce/{name}/{role}"
    hashes = [
        spec.content_hash() for preset in REPRODUCTIONS.values() for spec in preset.experiments.values()
    ]
    assert len(set(hashes)) == len(hashes)


def test_measures_read_the_numbers_they_name() -> None:
    found = evidence()
    forward = at_end_of("level 2 distilled", level=2)
    assert alpha_slope("role", 3, forward, "algorithm_1")(found) == pytest.approx(2)
    assert improvement("role", "algorithm_1", forward, at_the_end(2))(found) == pytest.approx(5)
    begun = at_start_of("level 2 distilled", level=2)
    assert improvement("role", "algorithm_1", begun, lambda _: 3.0)(found) == pytest.approx(3)
    gain = ratio("role", "layerwise", "algorithm_1", feature_error(2), alphas=(1, 0.1))
    assert gain(found) == pytest.approx(10)
    middle = median_of("role", "algorithm_1", nmse, alphas=(1, 0.1))
    assert middle(found) == pytest.approx(0.2 * 0.01 * 2 / 5)
    least = least_of("role", ["layerwise", "algorithm_1"], nmse)
    assert least(found) == median_of("role", "algorithm_1", nmse)(found)
    assert least_of("role", ["layerwise", "rbf"], nmse)(found) is None


def test_a_learner_that_never_gets_there_is_censored() -> None:
    spec = ExperimentSpec.model_validate(TINY | {"n": [64, 128], "dim": [6, 8]})
    runs = []
    for run in spec.runs():
        reached = run.learner.kind == "algorithm_1" or (run.dim, run.n) == (6, 128)
        runs.append(Trained(Row(run, "succeeded", Metrics(nmse=0.01 if reached else 0.7), 1.0)))
    found = {"role": runs}
    assert censored_share("role", "algorithm_1", 0.1, 0.4)(found) == 0
    assert censored_share("role", "layerwise", 0.1, 0.4)(found) == 0.5
    assert censored_share("role", "nobody", 0.1, 0.4)(found) is None


def test_a_lost_run_is_neither_averaged_away_nor_a_success() -> None:
    found = {"role": list(evidence((0.1,))["role"])}
    first = found["role"][0]
    found["role"][0] = Trained(Row(first.row.spec, "diverged", None))
    assert finished_share(found) == pytest.approx(8 / 9)
    assert improvement("role", "algorithm_1", at_end_of("level 2 distilled", 2), at_the_end(2))(found) is None
    two_lost = found | {"role": [Trained(Row(run.row.spec, "diverged", None)) for run in found["role"]]}
    assert median_of("role", "algorithm_1", nmse)(two_lost) is None
    assert not Expectation("x", None, math.inf, median_of("role", "algorithm_1", nmse)).check(two_lost).holds


@pytest.mark.parametrize(
    ("low", "high", "words", "holds"),
    [(1, None, "≥ 1", True), (None, 1, "≤ 1", False), (1, 3, "1 to 3", True), (2.5, 3, "2.5 to 3", False)],
)
def test_an_expectation_holds_inside_its_range(
    low: float | None, high: float | None, words: str, *, holds: bool
) -> None:
    finding = Expectation("two", low, high, lambda _: 2.0).check({})
    assert (finding.expected, finding.holds, finding.found) == (words, holds, 2.0)


def tiny_preset(high: float) -> Reproduction:
    spec = ExperimentSpec.model_validate(TINY)
    forward = at_end_of("level 2 distilled", level=2)
    return Reproduction(
        name="tiny",
        shows="Nothing.",
        source="none",
        experiments={"role": spec},
        expectations=(
            Expectation("share", 1, 1, finished_share),
            Expectation("median nMSE", 0, high, median_of("role", "algorithm_1", nmse)),
            Expectation("step", 0, None, improvement("role", "algorithm_1", forward, at_the_end(2))),
        ),
        figure="comparison",
        of="role",
    )


def test_a_preset_runs_through_the_door_and_is_checked() -> None:
    preset = tiny_preset(1e6)
    found = run_reproduction(preset)
    assert [trained.row.spec for trained in found["role"]] == preset.experiments["role"].runs()
    assert all(finding.holds for finding in preset.check(found))
    with pytest.raises(KeyError, match="no runs of role"):
        preset.check({})


@pytest.mark.parametrize(("high", "code"), [(1e6, 0), (1e-9, 1)])
def test_the_program_prints_expected_beside_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], high: float, code: int
) -> None:
    monkeypatch.setattr(program, "REPRODUCTIONS", {"tiny": tiny_preset(high)})
    assert program.main(["tiny"]) == code
    shown = capsys.readouterr().out
    assert "✓ share: 1 (expected 1 to 1)" in shown
    assert ("✗ median nMSE" in shown) is (code == 1)
    assert program.main(["all", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["tiny"][1]["high"] == high


def as_if_run(preset: Reproduction, status: str, metrics: Metrics | None) -> Evidence:
    return {
        role: [Trained(Row(run, status, metrics, 1.0)) for run in spec.runs()]
        for role, spec in preset.experiments.items()
    }


@pytest.mark.parametrize("name", REPRODUCTIONS)
def test_every_preset_can_be_run_and_judged_from_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    asked: list[str] = []

    def nothing_learned(preset: Reproduction, *_: object) -> Evidence:
        asked.append(preset.name)
        return as_if_run(preset, "succeeded", Metrics(nmse=1.0))

    monkeypatch.setattr(program, "run_reproduction", nothing_learned)
    assert program.main([name]) == 1
    assert asked == [name]
    shown = capsys.readouterr().out
    assert "✓ share of runs that succeeded: 1 (expected 1 to 1)" in shown
    assert all(each.sentence in shown for each in REPRODUCTIONS[name].expectations)
    # Every pack of it is one that the door accepts.
    for spec in REPRODUCTIONS[name].experiments.values():
        runs = spec.runs()
        assert sum(map(len, packs_of(runs))) == len(runs)


@pytest.mark.parametrize("preset", REPRODUCTIONS.values(), ids=list(REPRODUCTIONS))
def test_a_preset_whose_runs_are_lost_holds_nothing(preset: Reproduction) -> None:
    assert not any(finding.holds for finding in preset.check(as_if_run(preset, "failed", None)))


def test_an_unknown_preset_is_refused_before_any_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["nope"]) == 2
    assert "bfc-algorithm-1" in capsys.readouterr().err
    assert program.main([]) == 0
    assert "eight-steps" in capsys.readouterr().out
