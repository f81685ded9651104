"""The audit of the pins: what it says where advisories are known, and where nobody could be asked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import audit

ROOT = Path(__file__).parents[2]
CLEAN = {"name": "numpy", "version": "2.0", "vulns": []}
ABSENT = {"name": "private", "skip_reason": "Dependency not found on PyPI"}
FLAWED = {
    "name": "celery",
    "version": "5.5",
    "vulns": [
        {"id": "PYSEC-1", "fix_versions": ["5.6", "6.0"], "aliases": [], "description": ""},
        {"id": "PYSEC-2", "fix_versions": [], "aliases": [], "description": ""},
    ],
}


@pytest.mark.parametrize(
    ("packages", "code", "required_code", "said"),
    [
        ([CLEAN], 0, 0, "1 pinned packages asked about, 0 advisories"),
        ([CLEAN, ABSENT], 0, 0, "not asked: private"),
        ([CLEAN, FLAWED], 1, 1, "celery 5.5: PYSEC-1, fixed in 5.6, 6.0"),
        ([FLAWED], 1, 1, "celery 5.5: PYSEC-2, not fixed yet"),
        ([ABSENT], 0, 1, "could NOT be asked"),
    ],
)
def test_the_verdict_is_said_and_is_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, packages, code, required_code, said
) -> None:
    monkeypatch.setattr(audit, "ask", lambda: audit.verdict_of({"dependencies": packages}))
    monkeypatch.delenv("BFC_REQUIRE_AUDIT", raising=False)
    assert audit.main() == code
    captured = capsys.readouterr()
    assert said in captured.out + captured.err
    monkeypatch.setenv("BFC_REQUIRE_AUDIT", "1")
    assert audit.main() == required_code


@pytest.mark.parametrize(("required", "code"), [("0", 0), ("1", 1)])
def test_without_a_network_it_passes_and_says_so_loudly(required: str, code: int) -> None:
    """The auditor itself, behind a proxy that is not there."""
    nowhere = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:9")
    environment = os.environ | nowhere | {"BFC_REQUIRE_AUDIT": required}  # noqa: TID251 - inherited
    environment.pop("NO_PROXY", None)
    done = subprocess.run(
        [sys.executable, "-m", "deploy.audit"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "could NOT be asked" in done.stderr
    assert "Traceback" not in done.stderr
