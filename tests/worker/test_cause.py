"""What readers of a run are told of an exception."""

import pytest

from worker.cause import cause_of, without_paths


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a kernel of 3.1 GiB; use n < 8000", "a kernel of 3.1 GiB; use n < 8000"),
        ("n/2 of 10/20 samples, 1 / 3 each", "n/2 of 10/20 samples, 1 / 3 each"),
        ("cannot read '/var/lib/bfc/packs/1/a.pt'.", "cannot read '(path)'."),
        ("in ~/bfc/x and ../y/z: torn", "in (path) and (path): torn"),
        ('first\n  File "/opt/x.py", line 3', "first"),
        ("x" * 9999, "x" * 500),
    ],
)
def test_a_cause_is_one_short_line_without_paths(text: str, said: str) -> None:
    assert without_paths(text) == said


def test_an_error_of_the_system_is_called_what_the_system_calls_it() -> None:
    assert (
        cause_of(OSError(28, "No space left on device", "/secret/place"))
        == "OSError: No space left on device"
    )
    assert cause_of(ValueError("bad /secret/place")) == "ValueError: bad (path)"
