"""From an experiment spec to its plan: cells, packs, seconds, bytes, warnings. Pure; nothing is stored."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from bfc_core.packing import Estimate, estimate_pack, estimate_run, packs_of
from bfc_core.specs import AnyLearner, ExperimentSpec, Layerwise, Recipe, RunSpec
from bfc_core.statistics.aggregation import distinct_labels
from service.errors import FieldProblem, PlanRefusedError

FEW_SEEDS = 5


@dataclass(frozen=True)
class LearnerPlan:
    """What one learner of the experiment will cost."""

    label: str
    kind: str
    cells: int
    estimated_seconds: float
    estimated_memory_bytes: int


@dataclass(frozen=True)
class ExperimentPlan:
    """Everything that will be run, and what it is expected to cost on one core."""

    spec: ExperimentSpec
    runs: list[RunSpec]
    packs: list[list[RunSpec]]
    learners: list[LearnerPlan]
    estimated_seconds: float
    estimated_memory_bytes: int
    warnings: list[str]


def plan(spec: ExperimentSpec, memory_limit_bytes: int) -> ExperimentPlan:
    """Plan an experiment.

    Raises:
        PlanRefusedError: a kernel learner needs more memory than the deployment allows; names the learner.
    """
    runs = spec.runs()
    packs = packs_of(runs)
    estimates = [estimate_pack(pack) for pack in packs]
    learners, refusals = [], []
    grouped: defaultdict[AnyLearner, list[RunSpec]] = defaultdict(list)
    for run in runs:
        grouped[run.learner].append(run)
    labels = distinct_labels(grouped)
    for learner, cells in grouped.items():
        singles = _distinct_estimates(cells)
        memory = max(estimate.memory_bytes for estimate in singles)
        learners.append(
            LearnerPlan(labels[learner], learner.kind, len(cells), sum(e.seconds for e in singles), memory)
        )
        if not isinstance(learner, Recipe) and memory > memory_limit_bytes and learner in spec.learners:
            refusals.append(
                FieldProblem(
                    f"#/learners/{spec.learners.index(learner)}",
                    "memory_limit",
                    f"{labels[learner]} needs {memory / 2**30:.1f} GiB at n = {max(spec.n)}; this deployment allows "
                    f"{memory_limit_bytes / 2**30:.1f} GiB a pack. Use a smaller n or leave the learner out",
                )
            )
    if refusals:
        raise PlanRefusedError(refusals[0].detail, tuple(refusals))
    return ExperimentPlan(
        spec,
        runs,
        packs,
        learners,
        sum(estimate.seconds for estimate in estimates),
        max(estimate.memory_bytes for estimate in estimates),
        _warnings(spec),
    )


def _distinct_estimates(cells: Sequence[RunSpec]) -> list[Estimate]:
    """Estimate every cell; cells that differ in seed or alphas only cost the same and are worked out once."""
    known: dict[tuple[int, int], Estimate] = {}
    found = []
    for cell in cells:
        key = (cell.n, cell.dim)
        if key not in known:
            known[key] = estimate_run(cell)
        found.append(known[key])
    return found


def _warnings(spec: ExperimentSpec) -> list[str]:
    warnings = []
    if len(spec.seeds) == 1:
        warnings.append("one seed: the comparison will have no intervals and no tests")
    elif len(spec.seeds) < FEW_SEEDS:
        warnings.append(
            f"{len(spec.seeds)} seeds: intervals will be the extremes; {FEW_SEEDS} or more give a 95 % bootstrap"
        )
    if any(isinstance(learner, Layerwise) for learner in spec.learners):
        warnings.append("matched_compute_control runs beside layerwise, from the same checkpoint")
    return warnings
