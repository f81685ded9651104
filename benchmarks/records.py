"""Writing a comparison down: one JSON file for machines, one Markdown file for readers."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.timing import Ratio, Result

RECORDS = Path(__file__).parent.parent / "docs" / "records"


def machine_facts() -> dict[str, object]:
    """Versions, threads and load: what the numbers depend on beside the code."""
    return {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "machine": platform.machine(),
        "cpu": _cpu(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "scikit-learn": version("scikit-learn"),
        "commit": _commit(),
    }


def write_record(name: str, claim: str, result: Result, folder: Path = RECORDS) -> Path:
    """Write ``<date>-bench-<name>.json`` and ``.md``; answer the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{datetime.now(UTC):%Y-%m-%d}-bench-{name.replace('_', '-')}"
    facts = machine_facts()
    document = {
        "claim": claim,
        "facts": result.facts,
        "machine": facts,
        "seconds": result.seconds,
        "ratios": [
            {"name": r.name, "median": r.median, "values": r.values, "bound": r.bound, "is_upper": r.is_upper}
            for r in result.ratios
        ],
    }
    stem.with_suffix(".json").write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    markdown = stem.with_suffix(".md")
    markdown.write_text(as_markdown(name, claim, result, facts))
    return markdown


def as_markdown(name: str, claim: str, result: Result, machine: dict[str, object]) -> str:
    """The comparison as a page."""
    lines = [
        f"# Benchmark: {name.replace('_', ' ')}",
        "",
        claim,
        "",
        "| ratio | median | lowest … highest | asked | |",
    ]
    lines.append("|---|---|---|---|---|")
    lines += [_row(found) for found in result.ratios]
    lines += ["", "| arm | median seconds | lowest … highest |", "|---|---|---|"]
    for arm, seconds in result.seconds.items():
        ordered = sorted(seconds)
        lines.append(f"| {arm} | {ordered[len(ordered) // 2]:.3f} | {ordered[0]:.3f} … {ordered[-1]:.3f} |")
    for title, facts in (("Facts", result.facts), ("Machine", machine)):
        lines += ["", f"**{title}.** " + "; ".join(f"{key}: {value}" for key, value in facts.items()) + "."]
    return "\n".join(lines) + "\n"


def verdict(found: Ratio) -> str:
    """One word."""
    return {None: "", True: "holds", False: "MISSED"}[found.holds]


def _row(found: Ratio) -> str:
    asked = "" if found.bound is None else f"{'≤' if found.is_upper else '≥'} {found.bound:g}"
    spread = f"{min(found.values):.3g} … {max(found.values):.3g}"
    return f"| {found.name} | {found.median:.3g} | {spread} | {asked} | {verdict(found)} |"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip()
