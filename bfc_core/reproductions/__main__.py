"""``python -m bfc_core.reproductions NAME|all``: run presets and print expected beside measured.

Exit code 0 when every expectation held, 1 when one did not, 2 when there is no such preset.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence

import torch

from bfc_core.reproductions.preset import Finding, Reproduction
from bfc_core.reproductions.presets import REPRODUCTIONS
from bfc_core.reproductions.runner import run_reproduction


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments name; the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m bfc_core.reproductions", description=__doc__)
    parser.add_argument("name", nargs="?", help="a preset, or all; without it the presets are listed")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, … (default: cpu)")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (default: torch's choice)")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")
    options = parser.parse_args(arguments)
    if options.name is None:
        for preset in REPRODUCTIONS.values():
            sys.stdout.write(f"{preset.name}: {preset.shows}\n")
        return 0
    if options.name != "all" and options.name not in REPRODUCTIONS:
        sys.stderr.write(f"there is no preset {options.name!r}; there are {', '.join(REPRODUCTIONS)}, all\n")
        return 2
    if options.threads is not None:
        torch.set_num_threads(max(1, options.threads))
    names = list(REPRODUCTIONS) if options.name == "all" else [options.name]
    results: dict[str, list[Finding]] = {}
    for name in names:
        preset = REPRODUCTIONS[name]
        started = time.monotonic()
        results[name] = preset.check(run_reproduction(preset, options.device, _say))
        if not options.json:
            sys.stdout.write(text_of(preset, results[name], time.monotonic() - started))
            sys.stdout.flush()
    if options.json:
        json.dump(
            {name: [vars(each) for each in found] for name, found in results.items()}, sys.stdout, indent=1
        )
        sys.stdout.write("\n")
    return 0 if all(each.holds for found in results.values() for each in found) else 1


def text_of(preset: Reproduction, findings: Sequence[Finding], seconds: float) -> str:
    """The sentence of a preset and one line an expectation."""
    lines = [f"{preset.name} ({seconds:.0f} s): {preset.shows}"]
    for each in findings:
        found = "no number" if each.found is None else f"{each.found:.3g}"
        lines.append(f"  {'✓' if each.holds else '✗'} {each.sentence}: {found} (expected {each.expected})")
    return "\n".join(lines) + "\n\n"


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
