"""``make audit``: look for known vulnerabilities of the pinned packages.

pip-audit asks PyPI about every line of constraints.txt. Where PyPI cannot be asked (no network, a mirror that has no
advisories) this says so loudly and passes, unless BFC_REQUIRE_AUDIT=1.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PINS = Path("constraints.txt")
SECONDS = 300


@dataclass(frozen=True)
class Verdict:
    """What was asked and found."""

    asked: int
    not_asked: list[str]
    vulnerable: list[str]


def verdict_of(report: dict[str, Any]) -> Verdict:
    """Read pip-audit's JSON report."""
    packages = report["dependencies"]
    vulnerable = [
        f"{package['name']} {package['version']}: {flaw['id']}"
        + (f", fixed in {', '.join(flaw['fix_versions'])}" if flaw["fix_versions"] else ", not fixed yet")
        for package in packages
        for flaw in package.get("vulns", [])
    ]
    not_asked = [package["name"] for package in packages if "skip_reason" in package]
    return Verdict(len(packages) - len(not_asked), not_asked, vulnerable)


def ask() -> Verdict | None:
    """Run pip-audit; None where it has no answer at all."""
    command = [
        sys.executable, "-m", "pip_audit", "--requirement", str(PINS), "--no-deps", "--disable-pip",
        "--format", "json", "--progress-spinner", "off", "--timeout", "10",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603
        return verdict_of(json.loads(done.stdout))
    except (subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        return None


def main() -> int:
    """0 where nothing is known against the pins or nobody could be asked, 1 otherwise."""
    verdict = ask()
    if verdict is None or verdict.asked == 0:
        sys.stderr.write(
            "\n*** make audit: PyPI's advisories could NOT be asked. Nothing is known about the pinned packages,\n"
            "*** which is not the same as nothing being wrong with them. Run it again where pypi.org answers.\n\n"
        )
        return 1 if os.environ.get("BFC_REQUIRE_AUDIT") == "1" else 0  # noqa: TID251 - the gate's own setting
    if verdict.not_asked:
        sys.stderr.write(f"*** make audit: not known to PyPI, not asked: {', '.join(verdict.not_asked)}\n")
    for line in verdict.vulnerable:
        sys.stderr.write(f"*** {line}\n")
    sys.stdout.write(
        f"make audit: {verdict.asked} pinned packages asked about, {len(verdict.vulnerable)} advisories\n"
    )
    return 1 if verdict.vulnerable else 0


if __name__ == "__main__":
    sys.exit(main())
