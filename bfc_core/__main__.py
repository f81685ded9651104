"""``python -m bfc_core SPEC.json``: run an experiment spec without any service.

One JSON document on stdout, progress on stderr. Exit code 0 when every run ended as a result, 1 when a run
failed, 2 when the spec is refused (nothing was run).
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from bfc_core.data_sets import check as check_data_set
from bfc_core.errors import BfcError, DataSetUnusable
from bfc_core.manifest import manifest_of
from bfc_core.packing import estimate_run, packs_of
from bfc_core.posing import PosedProblems
from bfc_core.run import execute_pack
from bfc_core.specs import (
    Array,
    ExperimentSpec,
    Fault,
    Measurement,
    Outcome,
    Report,
    RunSpec,
    faults_of,
    label_of,
)


class TerminalObserver:
    """Writes one line on stderr whenever a pack has advanced by a tenth."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._tenth = 0

    def progressed(self, step: int, steps: int) -> None:
        """Say so at every tenth."""
        tenth = 10 * step // max(steps, 1)
        if tenth > self._tenth:
            self._tenth = tenth
            sys.stderr.write(f"{self._title}: {10 * tenth} %\n")

    def measured(self, run: int, measurements: Sequence[Measurement]) -> None:
        """Measurements along training are the service's business."""

    def cancelled(self) -> frozenset[int]:
        """Only Ctrl-C stops this program."""
        return frozenset()

    def stop_requested(self) -> bool:
        """Only Ctrl-C stops this program."""
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the spec that the arguments name; the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m bfc_core", description=__doc__)
    parser.add_argument("spec", help="a JSON experiment spec, or - for standard input")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, … (default: cpu)")
    parser.add_argument(
        "--cuda-graphs", action="store_true", help="record a step once and let the GPU replay it"
    )
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (default: torch's choice)")
    parser.add_argument(
        "--data-sets",
        type=Path,
        default=Path("var/data-sets"),
        metavar="FOLDER",
        help="where the files of targets of kind array lie (default: var/data-sets)",
    )
    parser.add_argument(
        "--memory-limit",
        type=float,
        default=None,
        metavar="GIB",
        help="refuse learners that need more (default: what this machine has)",
    )
    options = parser.parse_args(arguments)
    if options.cuda_graphs and not options.device.startswith("cuda"):
        parser.error(f"--cuda-graphs needs a GPU, and --device is {options.device}")
    if options.threads is not None:
        torch.set_num_threads(max(1, options.threads))
    try:
        text = sys.stdin.read() if options.spec == "-" else Path(options.spec).read_text(encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"cannot read {options.spec}: {error.strerror}\n")
        return 2
    try:
        document = json.loads(text)
        spec = ExperimentSpec.model_validate(document)
    except json.JSONDecodeError as error:
        sys.stderr.write(f"not JSON: {error}\nthe spec was refused; nothing was run\n")
        return 2
    except ValidationError as refusal:
        return _refused(faults_of(refusal, document))
    runs = spec.runs()
    limit = _memory_of_machine() if options.memory_limit is None else round(options.memory_limit * 2**30)
    if too_much := [*_missing(options.data_sets, spec), *_beyond(limit, spec, runs)]:
        return _refused(too_much)
    reports: dict[int, Report] = {}
    positions = {id(run): position for position, run in enumerate(runs)}
    is_gpu = options.device.startswith("cuda")
    gpu_memory_bytes = _half_of_memory(options.device) if is_gpu else None
    packs = packs_of(runs, gpu_memory_bytes=gpu_memory_bytes, memory_limit_bytes=limit)
    posed = PosedProblems(data_sets=options.data_sets)
    for number, pack in enumerate(packs, 1):
        title = f"pack {number}/{len(packs)} ({label_of(pack[0].learner)}, {len(pack)} runs)"
        for run, report in zip(pack, _execute(pack, title, options, limit, posed), strict=True):
            reports[positions[id(run)]] = report
    manifest = manifest_of(spec, device=options.device, threads=torch.get_num_threads())
    document = {
        "runs": [_row(run, reports[position]) for position, run in enumerate(runs)],
        "manifest": manifest,
    }
    json.dump(document, sys.stdout, allow_nan=False, indent=1)
    sys.stdout.write("\n")
    return 1 if any(report.outcome is Outcome.FAILED for report in reports.values()) else 0


def _half_of_memory(device: str) -> int:
    """Bytes that are free on a GPU, halved: the other half is for data, temporaries and measurements."""
    free, _ = torch.cuda.mem_get_info(device)
    return free // 2


def _refused(faults: Sequence[Fault]) -> int:
    for fault in faults:
        sys.stderr.write(f"{fault.pointer}: {fault.detail}\n")
    sys.stderr.write("the spec was refused; nothing was run\n")
    return 2


def _memory_of_machine() -> int:
    """Bytes that this machine has, or that its container may use."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(physical, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):  # no container, or one without a limit
        return physical


def _missing(folder: Path, spec: ExperimentSpec) -> Iterator[Fault]:
    """A fault where the target's file does not lie in the folder of data sets."""
    if isinstance(spec.target, Array):
        try:
            check_data_set(spec.target, folder)
        except DataSetUnusable as error:
            yield Fault("#/target/sha256", "data_set_unusable", str(error))


def _beyond(limit: int, spec: ExperimentSpec, runs: Sequence[RunSpec]) -> Iterator[Fault]:
    """A fault for every learner of which some run needs more than ``limit`` bytes, as the service has it."""
    # Seeds and alphas cost the same.
    largest = list({(run.learner, run.n, run.dim): run for run in runs}.values())
    for position, learner in enumerate(spec.learners):
        needed, n, dim = max(
            (estimate_run(run).memory_bytes, run.n, run.dim)
            for run in largest
            if run.learner == spec.budgeted(learner)
        )
        if needed > limit:
            yield Fault(
                f"#/learners/{position}",
                "memory_limit",
                f"{label_of(learner)} needs {needed / 2**30:.1f} GiB at n = {n}, dim = {dim}; the limit is "
                f"{limit / 2**30:.1f} GiB (--memory-limit)",
            )


def _execute(
    pack: list[RunSpec], title: str, options: argparse.Namespace, limit: int, posed: PosedProblems
) -> list[Report]:
    started = time.monotonic()
    try:
        return execute_pack(
            pack,
            TerminalObserver(title),
            options.device,
            memory_limit_bytes=limit,
            cuda_graphs=options.cuda_graphs,
            posed=posed,
        )
    except BfcError as error:
        seconds = (time.monotonic() - started) / len(pack)
        return [Report(outcome=Outcome.FAILED, seconds=seconds, message=str(error)) for _ in pack]


def _row(run: RunSpec, report: Report) -> dict[str, Any]:
    return {
        "target": run.target.model_dump(mode="json"),
        "learner": run.learner.model_dump(mode="json"),
        "label": label_of(run.learner),
        "n": run.n,
        "dim": run.dim,
        "seed": run.seed,
        "status": report.outcome.value,
        "metrics": None if report.metrics is None else report.metrics.model_dump(mode="json"),
        "seconds": report.seconds,
        "steps": report.steps,
        "flops": report.flops,
        "selection": dict(report.selection),
        "warnings": list(report.warnings),
        "message": report.message,
    }


if __name__ == "__main__":
    sys.exit(main())
