"""From an experiment spec to its plan: cells, packs, seconds, bytes, warnings. Pure; nothing is read or stored."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bfc_core.packing import Estimate, estimate_pack, estimate_run, packs_of, planned_flops
from bfc_core.specs import AnyLearner, CorrectionWindow, ExperimentSpec, Layerwise, Recipe, RunSpec
from bfc_core.statistics.aggregation import distinct_labels
from bfc_core.theory.faint_levels import in_words
from service.errors import FieldProblem, PlanRefusedError
from service.experiments.calibration import Calibration
from service.runs.cell import cell_hash
from service.runs.reuse import AnsweredCell

FEW_SEEDS = 5


@dataclass(frozen=True)
class Cell:
    """One cell of the grid, and the finished run that answers it, if there is one."""

    spec: RunSpec
    hash: str
    answer: AnsweredCell | None = None


@dataclass(frozen=True)
class LearnerPlan:
    """What one learner of the experiment will cost; reused cells cost nothing."""

    label: str
    kind: str
    cells: int
    reused_cells: int
    estimated_seconds: float
    estimated_memory_bytes: int
    estimated_flops: int
    calibration: Calibration | None = None


@dataclass(frozen=True)
class ExperimentPlan:
    """Everything that will be run, and what it is expected to cost on one core.

    ``cells`` has every cell of the grid in its order, ``packs`` only those that no finished run answers;
    ``estimates`` has one entry a pack.
    """

    spec: ExperimentSpec
    cells: list[Cell]
    packs: list[list[RunSpec]]
    estimates: list[Estimate]
    learners: list[LearnerPlan]
    estimated_seconds: float
    estimated_memory_bytes: int
    estimated_flops: int
    warnings: list[str]

    @property
    def reused_cells(self) -> int:
        """Cells that a finished run answers."""
        return sum(cell.answer is not None for cell in self.cells)

    @property
    def saved_seconds(self) -> float:
        """What computing the reused cells took, once."""
        return sum(cell.answer.seconds for cell in self.cells if cell.answer is not None)


def cells_of(spec: ExperimentSpec) -> list[Cell]:
    """The cells of an experiment's grid, none of them answered yet."""
    return [Cell(run, cell_hash(run)) for run in spec.runs()]


def answered(cells: Sequence[Cell], answers: Mapping[str, AnsweredCell]) -> list[Cell]:
    """The same cells with what is known already."""
    return [replace(cell, answer=answers.get(cell.hash)) for cell in cells]


def plan(
    spec: ExperimentSpec,
    cells: list[Cell],
    memory_limit_bytes: int,
    calibrated: Mapping[str, Calibration] | None = None,
    pack_members: int | None = None,
    network_pack_bytes: int | None = None,
) -> ExperimentPlan:
    """Plan the cells of an experiment that have no answer yet.

    Args:
        calibrated: by kind of learner, what corrects the estimated seconds and FLOPs; nothing is corrected without.
        pack_members: most runs of a pack; None: as many as are fastest.
        network_pack_bytes: what one pack of networks may fill of its device; None: sizes for a CPU.

    Raises:
        PlanRefusedError: a learner needs more memory than the deployment allows, or two learners are the same under
            the budget; names the learner.
    """
    _refuse_twins(spec)
    open_runs = (cell.spec for cell in cells if cell.answer is None)
    packs = packs_of(open_runs, pack_members, network_pack_bytes, memory_limit_bytes)
    calibrated = calibrated or {}
    factors = {kind: found.factor for kind, found in calibrated.items()}
    estimates = [_corrected(pack, factors) for pack in packs]
    learners, refusals = [], []
    grouped: defaultdict[AnyLearner, list[Cell]] = defaultdict(list)
    for cell in cells:
        grouped[cell.spec.learner].append(cell)
    labels = distinct_labels(grouped)
    position = {spec.budgeted(learner): index for index, learner in enumerate(spec.learners)}
    for learner, of_learner in grouped.items():
        open_cells = [cell.spec for cell in of_learner if cell.answer is None]
        singles, flops = _distinct_estimates(open_cells)
        memory = max((estimate.memory_bytes for estimate in singles), default=0)
        learners.append(
            LearnerPlan(
                labels[learner],
                learner.kind,
                len(of_learner),
                len(of_learner) - len(open_cells),
                sum(e.seconds for e in singles) * factors.get(learner.kind, 1.0),
                memory,
                round(flops * _flops_factor(calibrated.get(learner.kind))),
                calibrated.get(learner.kind),
            )
        )
        if memory > memory_limit_bytes and learner in position:
            refusals.append(
                FieldProblem(
                    f"#/learners/{position[learner]}",
                    "memory_limit",
                    f"{labels[learner]} needs {memory / 2**30:.1f} GiB at n = {max(spec.n)}; this deployment allows "
                    f"{memory_limit_bytes / 2**30:.1f} GiB a pack. {_what_to_do(learner)}",
                )
            )
    if refusals:
        raise PlanRefusedError(refusals[0].detail, tuple(refusals))
    return ExperimentPlan(
        spec,
        cells,
        packs,
        estimates,
        learners,
        sum(estimate.seconds for estimate in estimates),
        max((estimate.memory_bytes for estimate in estimates), default=0),
        sum(learner.estimated_flops for learner in learners),
        _warnings(spec, (cell.spec for cell in cells), max((e.seconds for e in estimates), default=0.0)),
    )


def _refuse_twins(spec: ExperimentSpec) -> None:
    """Refuse learners that the budget makes equal: two were asked for, and one would be answered.

    Not in the spec's own checks: stored experiments must stay readable.
    """
    first: dict[AnyLearner, int] = {}
    for index, learner in enumerate(spec.learners):
        same = first.setdefault(spec.budgeted(learner), index)
        if same != index:
            detail = (
                f"it is the same as learner {same} once budget.steps_per_stage = {spec.budget.steps_per_stage} "
                "holds for both; leave one of them or the budget out"
            )
            raise PlanRefusedError(detail, (FieldProblem(f"#/learners/{index}", "learner_twice", detail),))


def _what_to_do(learner: AnyLearner) -> str:
    if isinstance(learner, Recipe):
        return "Use a smaller n or dim, a smaller width or batch_size, or leave the learner out"
    return "Use a smaller n or leave the learner out"


def _corrected(pack: Sequence[RunSpec], factors: Mapping[str, float]) -> Estimate:
    """The estimate of a pack, each of its runs corrected by the factor of its learner."""
    estimate = estimate_pack(pack)
    if not any(run.learner.kind in factors for run in pack):
        return estimate
    seconds = sum(estimate_run(run).seconds * factors.get(run.learner.kind, 1.0) for run in pack)
    return replace(estimate, seconds=seconds)


def _flops_factor(calibration: Calibration | None) -> float:
    return 1.0 if calibration is None or calibration.flops is None else calibration.flops.factor


def _distinct_estimates(cells: Sequence[RunSpec]) -> tuple[list[Estimate], int]:
    """Every cell's estimate, and the FLOPs of all; those that differ in seed or alphas only are worked out once."""
    known: dict[tuple[int, int], tuple[Estimate, int]] = {}
    found, total = [], 0
    for cell in cells:
        key = (cell.n, cell.dim)
        if key not in known:
            known[key] = (estimate_run(cell), planned_flops(cell))
        estimate, flops = known[key]
        found.append(estimate)
        total += flops
    return found, total


def _warnings(spec: ExperimentSpec, runs: Iterable[RunSpec], longest: float) -> list[str]:
    """``longest`` are the estimated seconds of the longest pack."""
    warnings = []
    if spec.budget.seconds is not None and longest > spec.budget.seconds:
        warnings.append(
            f"a pack is estimated at {longest:.3g} s and its runs fail after budget.seconds = {spec.budget.seconds:g}"
        )
    if len(spec.seeds) == 1:
        warnings.append("one seed: the comparison will have no intervals and no tests")
    elif len(spec.seeds) < FEW_SEEDS:
        warnings.append(
            f"{len(spec.seeds)} seeds: intervals will be the extremes; {FEW_SEEDS} or more give a 95 % bootstrap"
        )
    if any(isinstance(learner, Layerwise | CorrectionWindow) for learner in spec.learners):
        warnings.append("matched_compute_control runs beside layerwise, from the same checkpoint")
    without = sorted({learner.kind for learner in spec.learners if not isinstance(learner, Recipe)})
    if spec.budget.keep_predictor and without:
        warnings.append(f"keep_predictor keeps trained networks; {', '.join(without)} will leave no artifact")
    # Seeds draw other targets of the same levels.
    return warnings + in_words(run for run in runs if run.seed == spec.seeds[0])
