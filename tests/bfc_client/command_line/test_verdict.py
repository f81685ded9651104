"""A verdict as lines of text."""

from bfc_client.command_line.tables import verdict_lines
from bfc_client.reproduction import Verdict


def test_every_expectation_is_one_line():
    verdict = Verdict.model_validate(
        {
            "name": "x",
            "verdict": "failed",
            "findings": [
                {
                    "sentence": "slope",
                    "low": 1.8,
                    "high": 2.2,
                    "expected": "1.8 to 2.2",
                    "found": 1.97,
                    "holds": True,
                },
                {"sentence": "gain", "low": 3, "expected": "≥ 3", "found": None, "holds": False},
            ],
        }
    )
    assert verdict_lines(verdict) == ["✓ slope: 1.97 (expected 1.8 to 2.2)", "✗ gain: – (expected ≥ 3)"]
