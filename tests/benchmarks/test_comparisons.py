"""The harness of `make bench`: what a ratio claims, what a record says. No comparison is run here."""

import importlib
import json

import pytest

from benchmarks.__main__ import comparisons, main
from benchmarks.records import write_record
from benchmarks.timing import Ratio, Result, in_turn, ratio


def test_ratios_are_taken_repetition_by_repetition_and_judged_by_their_median() -> None:
    found = ratio("slow over fast", [2.0, 9.0, 4.0], [1.0, 1.0, 2.0], bound=2.0)
    assert found.values == (2.0, 9.0, 2.0)
    assert found.median == 2.0
    assert found.holds is True
    assert ratio("x", [1.0], [1.0], bound=2.0).holds is False
    assert Ratio("memory", (0.4,), 0.5, is_upper=True).holds is True
    assert Ratio("memory", (0.6,), 0.5, is_upper=True).holds is False
    assert Ratio("only told", (1.0,)).holds is None


def test_arms_alternate() -> None:
    order = []
    seconds = in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["a", "b", "a", "b"]
    assert [len(values) for values in seconds.values()] == [2, 2]


def test_a_record_holds_every_number_and_a_missed_claim_is_said(tmp_path) -> None:
    result = Result({"fast": [1.0, 2.0, 3.0]}, [Ratio("speed", (1.0, 1.5), 2.0)], {"n": 5})
    markdown = write_record("my_case", "It is twice as fast.", result, tmp_path)
    assert markdown.name.endswith("-bench-my-case.md")
    assert "| speed | 1.25 | 1 … 1.5 | ≥ 2 | MISSED |" in markdown.read_text()
    document = json.loads(markdown.with_suffix(".json").read_text())
    assert document["ratios"][0]["values"] == [1.0, 1.5]
    assert document["machine"]["threads"] >= 1


def test_every_module_that_is_no_harness_is_a_comparison() -> None:
    for name in comparisons():
        module = importlib.import_module(f"benchmarks.{name}")
        assert isinstance(module.CLAIM, str)
        assert callable(module.measure)


def test_an_unknown_comparison_is_refused_before_any_work(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(["no_such_case"])
    assert refusal.value.code == 2
    assert "no comparison no_such_case" in capsys.readouterr().err
