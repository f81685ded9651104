"""``bfc complexity`` as text: censored, open and missing numbers have words."""

from rich.console import Console

from bfc_client.answers import Complexity
from bfc_client.command_line.complexity import complexity_table, fit_line

FOUND = Complexity.model_validate(
    {
        "experiment_id": "x",
        "status": "succeeded",
        "eps": 0.1,
        "delta": 0.2,
        "cells": [
            {
                "label": "joint", "learner": {"kind": "joint"}, "dim": 10, "smallest_n": 64, "largest_n": 4000,
                "first": {"value": 812.3, "low": None, "high": 1000.0, "text": "812.3"},
                "last": {"value": 900.0, "text": "900"}, "seeds": 5,
            },
            {
                "label": "rbf", "learner": {"kind": "kernel_ridge"}, "dim": 10, "smallest_n": 64, "largest_n": 4000,
                "first": {"censored": "above", "low": 4000.0, "text": "> 4000"},
                "last": {"censored": "above", "text": "> 4000"}, "seeds": 5,
            },
        ],
        "fits": [
            {
                "label": "joint", "learner": {}, "exponent": 1.52, "low": 1.1, "high": 2.0,
                "preferred": "polynomial", "said": "5 sizes, at least 5 seeds each",
                "theory": {"learners": "any learner", "statement": "at least k_2 dim", "exponent": 1},
            },
            {"label": "rbf", "learner": {}, "said": "there are 0 sizes"},
        ],
    }
)  # fmt: skip


def test_the_table_says_what_lies_beyond_the_grid():
    console = Console(width=120)
    with console.capture() as capture:
        console.print(complexity_table(FOUND.cells))
    text = capture.get()
    assert "≤ 64 to 1e+03" in text
    assert "4e+03 to > 4000" in text


def test_a_fit_is_one_line_with_its_interval_or_the_reason():
    joint, kernel = FOUND.fits
    assert "dim^1.52 (1.1 to 2)" in fit_line(joint)
    assert fit_line(joint).endswith("; theory of any learner: at least k_2 dim")
    assert fit_line(kernel) == "rbf: no exponent: there are 0 sizes"
