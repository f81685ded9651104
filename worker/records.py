"""``python -m worker.records NAME…``: run presets and write what they found to docs/records/<date>-<name>/.

A record is spec.json (every experiment, defaults resolved), result.json (findings, one row a run, commit,
versions), figure.svg and README.md. It stands in this package because only the worker sees both what trains
and the charts.
"""

import argparse
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bfc_core.manifest import manifest_of
from bfc_core.reproductions.__main__ import text_of
from bfc_core.reproductions.measures import at_end_of, at_the_end
from bfc_core.reproductions.preset import Evidence, Finding, Reproduction, Trained
from bfc_core.reproductions.presets import REPRODUCTIONS
from bfc_core.reproductions.runner import run_reproduction
from bfc_core.specs import label_of
from bfc_core.statistics.aggregation import grid_point_of
from service.charts.alpha_slope import alpha_slope_chart
from service.charts.build import build_chart, chart_svg
from service.charts.complexity import complexity_chart
from service.charts.stages import stages_chart
from service.complexity.reading import complexity_answer
from service.experiments.comparison import comparison_answer
from service.models import ExperimentStatus

FOLDER = Path("docs/records")

Say = Callable[[str], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the records that the arguments name; 1 where an expectation did not hold, 2 for an unknown name."""
    parser = argparse.ArgumentParser(prog="python -m worker.records", description=__doc__)
    parser.add_argument("names", nargs="+", choices=[*REPRODUCTIONS, "all"], metavar="NAME")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"where records lie (default: {FOLDER})")
    options = parser.parse_args(arguments)
    names = list(REPRODUCTIONS) if "all" in options.names else options.names
    held = True
    for name in names:
        findings = write_record(
            REPRODUCTIONS[name], options.folder, lambda line: _write(sys.stderr.write, line)
        )
        held &= all(finding.holds for finding in findings)
    return 0 if held else 1


def write_record(preset: Reproduction, folder: Path, say: Say) -> list[Finding]:
    """Run a preset and write its record; the findings, whether they hold or not."""
    commit = _commit()
    started = time.monotonic()
    evidence = run_reproduction(preset, say=say)
    seconds = time.monotonic() - started
    findings = preset.check(evidence)
    today = datetime.now(UTC).date().isoformat()
    place = folder / f"{today}-{preset.name}"
    place.mkdir(parents=True, exist_ok=True)
    specs = {role: spec.model_dump(mode="json") for role, spec in preset.experiments.items()}
    _write_json(place / "spec.json", specs)
    manifest = manifest_of(preset.experiments[preset.of], device="cpu")
    result = {
        "name": preset.name,
        "shows": preset.shows,
        "source": preset.source,
        "date": today,
        "commit": commit,
        "seconds": round(seconds, 1),
        "versions": manifest["versions"],
        "python": manifest["python"],
        "machine": manifest["machine"],
        "findings": [
            {
                "sentence": each.sentence,
                "expected": each.expected,
                "found": each.found,
                "holds": each.holds,
            }
            for each in findings
        ],
        "runs": [_row(role, trained) for role, runs in evidence.items() for trained in runs],
    }
    _write_json(place / "result.json", result)
    (place / "figure.svg").write_text(chart_svg(figure_of(preset, evidence)), encoding="utf-8")
    text = text_of(preset, findings, seconds)
    (place / "README.md").write_text(_page(preset, findings, commit, seconds), encoding="utf-8")
    say(text)
    return findings


def figure_of(preset: Reproduction, evidence: Evidence) -> dict[str, Any]:
    """The preset's figure as a Vega-Lite spec."""
    rows = [trained.row for trained in evidence[preset.of]]
    nobody, status = uuid.UUID(int=0), ExperimentStatus.SUCCEEDED
    match preset.figure:
        case "complexity":
            every = [trained.row for runs in evidence.values() for trained in runs]
            answer = complexity_answer(nobody, status, every, preset.eps, preset.delta, "nmse")
            return complexity_chart(answer.model_dump(mode="json"))
        case "alpha-slope":
            return alpha_slope_chart(_before_and_after(evidence[preset.of]))
        case "stages":
            return stages_chart(_points(evidence[preset.of]))
        case name:
            return build_chart(name, comparison_answer(nobody, status, rows).model_dump(mode="json"))


def _points(runs: Sequence[Trained]) -> list[dict[str, Any]]:
    return [
        {
            "panel": _place(trained),
            "seed": trained.row.spec.seed,
            "step": each.step,
            "stage": each.stage,
            "level": each.level,
            "value": each.value,
        }
        for trained in runs
        for each in trained.measurements
        if each.name == "feature_error"
    ]


def _before_and_after(runs: Sequence[Trained]) -> list[dict[str, Any]]:
    """Level-2 feature error at the end of its own stages, and in the report."""
    whens = {"before level 3 is trained": at_end_of("level 2 distilled", 2), "after": at_the_end(2)}
    return [
        {"alpha": alphas[1], "when": when, "value": number_at(trained)}
        for when, number_at in whens.items()
        for trained in runs
        if (alphas := grid_point_of(trained.row.spec).alphas) is not None
    ]


def _place(trained: Trained) -> str:
    alphas = grid_point_of(trained.row.spec).alphas or ()
    return f"{label_of(trained.row.spec.learner)}, α = ({', '.join(f'{alpha:g}' for alpha in alphas)})"


def _row(role: str, trained: Trained) -> dict[str, Any]:
    row, point = trained.row, grid_point_of(trained.row.spec)
    return {
        "experiment": role,
        "learner": label_of(row.spec.learner),
        "n": point.n,
        "dim": point.dim,
        "alphas": point.alphas,
        "seed": row.spec.seed,
        "status": row.status,
        "metrics": None if row.metrics is None else row.metrics.model_dump(mode="json"),
        "seconds": None if row.seconds is None else round(row.seconds, 3),
    }


def _page(preset: Reproduction, findings: Sequence[Finding], commit: str, seconds: float) -> str:
    lines = [
        f"# {preset.name}",
        "",
        preset.shows,
        "",
        f"Source: {preset.source}. Commit {commit}, {seconds:.0f} s. Repeat: `make record name={preset.name}`.",
        "",
        "| expectation | expected | measured | holds |",
        "|---|---|---|---|",
    ]
    for each in findings:
        found = "no number" if each.found is None else f"{each.found:.3g}"
        lines.append(f"| {each.sentence} | {each.expected} | {found} | {'yes' if each.holds else '**no**'} |")
    return "\n".join([*lines, "", "![figure](figure.svg)", ""])


def _commit() -> str:
    """The commit that is checked out, marked where the tree differs from it; "unknown" outside a repository."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        is_changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit} with changes" if is_changed else commit


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - fixed words
    return answer.stdout.strip()


def _write_json(path: Path, document: object) -> None:
    path.write_text(
        json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )


def _write(write: Callable[[str], object], line: str) -> None:
    write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
