"""The only door for whoever runs packs: the worker's child process and ``python -m bfc_core``."""

import time
from collections.abc import Sequence
from pathlib import Path

from bfc_core.checkpoint import CheckpointFolder
from bfc_core.errors import ResourceLimitExceeded
from bfc_core.evaluation import report_of
from bfc_core.kernels.shared import EigendecompositionFolder
from bfc_core.learners.exact_algorithm_1 import ExactPack, is_exact
from bfc_core.learners.hierarchical import HierarchicalPack
from bfc_core.learners.hierarchy_search import fit_by_search, searches
from bfc_core.learners.kernel_pack import KernelPack
from bfc_core.learners.network_file import NAME, save_network
from bfc_core.learners.network_predictor import NetworkPredictor
from bfc_core.packing import estimate_run, is_one_program
from bfc_core.posing import PosedProblems
from bfc_core.specs import Recipe, Report, RunSpec
from bfc_core.training.progress import Observer, SilentObserver


def execute_pack(
    specs: Sequence[RunSpec],
    observer: Observer | None = None,
    device: str = "cpu",
    checkpoints: CheckpointFolder | None = None,
    memory_limit_bytes: int | None = None,
    kernel_cache: EigendecompositionFolder | None = None,
    artifacts: Path | None = None,
    data_sets: Path | None = None,
    *,
    cuda_graphs: bool = False,
    posed: PosedProblems | None = None,
) -> list[Report]:
    """Train and evaluate every run of a pack; one report a run, in order.

    A run's report does not depend on its pack mates. Divergence and cancellation are outcomes. With
    ``checkpoints`` the pack continues from the newest sound checkpoint and the numbers are those of
    an uninterrupted execution. ``kernel_cache`` keeps eigendecompositions between packs. What a
    run's budget keeps is written to ``artifacts / str(position of the run)``. Users' files lie in ``data_sets``. With
    ``cuda_graphs`` the stages of a network are recorded once and replayed by the GPU. Runs that share a target, samples
    or test rows share what is drawn; ``posed`` (which then says where users' files lie) lets a process that executes
    several packs share it among them too.

    Raises:
        ValueError: the runs are no pack: their shapes do not agree; or ``cuda_graphs`` without a GPU.
        PackInterrupted: ``observer.stop_requested`` answered true; the checkpoint is on disk.
        ResourceLimitExceeded: a run does not fit ``memory_limit_bytes``; it was not started.
    """
    if isinstance(specs[0].learner, Recipe) and not is_one_program(specs):
        raise ValueError("these runs do not share one network shape, recipe, dim and budget")
    if cuda_graphs and not device.startswith("cuda"):
        raise ValueError(f"CUDA graphs need a GPU, and the device is {device}")
    observer = observer or SilentObserver()
    posed = posed or PosedProblems(data_sets=data_sets)
    if not isinstance(specs[0].learner, Recipe):
        return KernelPack(specs, observer, checkpoints, memory_limit_bytes, kernel_cache, posed).reports()
    if memory_limit_bytes is not None:
        _check_memory(specs, memory_limit_bytes)
    started = time.monotonic()
    problems = [posed.pose(spec) for spec in specs]
    if searches(specs[0].learner):
        fitted = fit_by_search(specs, problems, observer, device, checkpoints)
    elif is_exact(specs[0].learner):
        fitted = ExactPack(specs, problems, observer, device, checkpoints).fit()
    else:
        pack = HierarchicalPack(specs, problems, observer, device, checkpoints, cuda_graphs=cuda_graphs)
        fitted = pack.fit()
    reports = [report_of(fit, problem, seconds=0.0) for fit, problem in zip(fitted, problems, strict=True)]
    if artifacts is not None:
        for run, (spec, fit) in enumerate(zip(specs, fitted, strict=True)):
            if spec.budget.keep_predictor and isinstance(fit.predictor, NetworkPredictor):
                save_network(fit.predictor, spec, artifacts / str(run) / NAME)
    seconds = (time.monotonic() - started) / len(specs)
    return [report.model_copy(update={"seconds": seconds}) for report in reports]


def _check_memory(specs: Sequence[RunSpec], limit_bytes: int) -> None:
    """Refuse networks that are estimated to be too large before their samples are drawn; kernels know what is exact."""
    for spec in specs:
        needed = estimate_run(spec).memory_bytes
        if needed > limit_bytes:
            raise ResourceLimitExceeded(f"{spec.learner.kind} on {spec.n} samples", needed, limit_bytes)
