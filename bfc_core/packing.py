"""Runs → packs, and what runs and packs are expected to cost. Free of torch; pure.

A pack is a list of runs that one worker executes together. Hierarchical learners whose tensor shapes
agree train as one batched program, whatever their seeds, alphas and n; kernel runs share a pack only
while the pack stays short, because they gain nothing from company and a short pack loses little to a crash.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never

from bfc_core.baseline_cost import baseline_memory_bytes, baseline_seconds
from bfc_core.flops.baselines import planned_baseline_flops
from bfc_core.flops.kernels import planned_feature_machine_flops, planned_kernel_ridge_flops
from bfc_core.flops.networks import planned_network_flops
from bfc_core.kernel_cost import (
    feature_machine_memory_bytes,
    feature_machine_seconds,
    kernel_ridge_memory_bytes,
    kernel_ridge_seconds,
    shared_memory_bytes,
)
from bfc_core.specs import (
    LOWEST_LEVEL,
    AlgorithmOne,
    AnyLearner,
    Array,
    DataSet,
    HierarchicalLearner,
    KernelRidge,
    LabelledTarget,
    Recipe,
    RecursiveFeatureMachine,
    RunSpec,
    hierarchy_of,
    known_features,
)
from bfc_core.specs.baselines import Baseline, Linear, Oracle
from bfc_core.specs.learners import Joint
from bfc_core.training.schedule import refinement_bytes

MAX_MEMBERS = 16
"""Members of one batched program: the cost of starting an operation is shared well enough by then."""

CACHE_BYTES = 8 * 2**20
"""What the arrays of one step may fill together: of the order of a core's cache. Past it a member more saves little,
since every operation then waits for memory."""

SHORT_PACK_SECONDS = 8.0
"""Runs are grouped up to this estimate; networks that train longer still up to :data:`MAX_MEMBERS` of them."""

MAX_SHORT_MEMBERS = 256
"""Runs of one pack, however short or however large the device: bounds the transactions that claim it and store its
reports."""


SECONDS_A_STEP, SECONDS_AN_EXACT_STEP = 1.2e-4, 4.5e-4
"""What a step costs beside its products."""

STEPPED_FLOPS, REFINED_FLOPS = 2.5e10, 5e9
"""Products a second on one core: of steps in float32, and of refinements, which are in float64 and often short."""


@dataclass(frozen=True)
class Estimate:
    """Predicted cost of one run or pack on one core."""

    seconds: float
    memory_bytes: int


def packs_of(
    runs: Iterable[RunSpec], max_members: int | None = None, gpu_memory_bytes: int | None = None
) -> list[list[RunSpec]]:
    """Group runs into packs; every run appears once, in a stable order.

    Without ``max_members`` a pack has as many as train fastest for their shape: on a CPU as its cache holds, on a GPU
    as many as ``gpu_memory_bytes`` hold with their samples, up to :data:`MAX_SHORT_MEMBERS`. With both, whichever is
    fewer; a single run too large for these bytes is a pack all the same. With 1 every run is alone.
    """
    if max_members == 1:
        return [[run] for run in runs]
    groups: defaultdict[Hashable, list[RunSpec]] = defaultdict(list)
    for run in runs:
        groups[_shape_key(run)].append(run)
    packs: list[list[RunSpec]] = []
    for group in groups.values():
        if isinstance(group[0].learner, Recipe) and gpu_memory_bytes is not None:
            most = min(MAX_SHORT_MEMBERS, max_members or MAX_SHORT_MEMBERS)
            packs.extend(_staged_packs(group, most, gpu_memory_bytes))
        elif isinstance(group[0].learner, Recipe):
            packs.extend(_staged_packs(group, min(MAX_SHORT_MEMBERS, max_members or MAX_SHORT_MEMBERS)))
        else:
            packs.extend(_short_packs(group, min(MAX_SHORT_MEMBERS, max_members or MAX_SHORT_MEMBERS)))
    return packs


def estimate_run(run: RunSpec) -> Estimate:
    """Seconds and peak bytes of one run alone."""
    estimate = _estimate(run)
    if _targets(run) > 1:
        # Labels, predictions, residuals and weights have a column a class.
        columns = 8 * 6 * (run.n + run.budget.test_samples) * _targets(run)
        estimate = Estimate(estimate.seconds, estimate.memory_bytes + columns)
    if not isinstance(run.target, Array):
        return estimate
    # The whole file is read, whatever n is: its rows, and those that are taken from them.
    numbers = run.target.rows * run.target.columns
    return Estimate(estimate.seconds + 2e-9 * numbers, estimate.memory_bytes + 16 * numbers)


def _estimate(run: RunSpec) -> Estimate:
    learner: AnyLearner = run.learner
    match learner:
        case Recipe():
            return _estimate_hierarchical(run, learner)
        case KernelRidge():
            return _estimate_kernel_ridge(run, learner)
        case RecursiveFeatureMachine():
            pairs = len(learner.bandwidths) * len(learner.ridges)
            n, dim, test_samples = _mapped(run, learner)
            seconds = feature_machine_seconds(
                n, test_samples, pairs, learner.rounds, learner.validation_fraction, dim
            )
            return Estimate(0.05 + seconds, feature_machine_memory_bytes(n, test_samples, dim))
        case Baseline():
            known = known_features(run.target)
            cost = (learner, run.n, row_length(run), run.budget.test_samples, known)
            begin = 0.02 if isinstance(learner, Oracle | Linear) else 0.1
            return Estimate(begin + baseline_seconds(*cost), baseline_memory_bytes(*cost))
        case _:
            assert_never(learner)


def estimate_pack(pack: Sequence[RunSpec]) -> Estimate:
    """Seconds and peak bytes of a pack: batched members live together, kernel runs one after another.

    Of members beyond those that a CPU steps together only the samples count.
    """
    singles = [estimate_run(run) for run in pack]
    seconds = sum(single.seconds for single in singles)
    learner = pack[0].learner
    if isinstance(learner, Recipe):
        waiting = max(0, len(pack) - fastest_members(pack[0], learner))
        memory_bytes = sum(single.memory_bytes for single in singles) - waiting * _stepped_bytes(learner)
        return Estimate(seconds, memory_bytes)
    shared = max((shared_memory_bytes(run.n) for run in pack if shares_a_gram(run, pack)), default=0)
    return Estimate(seconds, max(single.memory_bytes for single in singles) + shared)


def planned_flops(run: RunSpec) -> int:
    """Floating-point operations of one run that ends as planned, counted as :mod:`bfc_core.flops` says."""
    learner: AnyLearner = run.learner
    match learner:
        case Recipe():
            return planned_network_flops(run, learner)
        case KernelRidge():
            return planned_kernel_ridge_flops(learner, *_mapped(run, learner), _targets(run))
        case RecursiveFeatureMachine():
            return planned_feature_machine_flops(learner, *_mapped(run, learner))
        case Baseline():
            cost = (run.n, row_length(run), run.budget.test_samples)
            return planned_baseline_flops(learner, *cost, _targets(run), known_features(run.target))
        case _:
            assert_never(learner)


def row_length(run: RunSpec) -> int:
    """Numbers that a learner reads of a sample: in classification rows are (x₀, x)."""
    is_longer = isinstance(run.target, LabelledTarget) and run.target.task == "classification"
    return run.dim + 1 if is_longer else run.dim


def _mapped(run: RunSpec, learner: KernelRidge | RecursiveFeatureMachine) -> tuple[int, int, int]:
    """n, the length of what the learner's feature map makes of a row, and test samples."""
    dim = row_length(run)
    return run.n, dim if learner.feature_map == "identity" else 2 * dim, run.budget.test_samples


def _targets(run: RunSpec) -> int:
    """Numbers that are predicted for a sample."""
    return (run.target.sizes.classes or 1) if isinstance(run.target, DataSet) else 1


def shares_a_gram(run: RunSpec, pack: Sequence[RunSpec]) -> bool:
    """Whether another kernel ridge run of the pack has the same gram, or one that contains it."""
    key = _gram_key(run)
    return key is not None and sum(_gram_key(other) == key for other in pack) > 1


def _shape_key(run: RunSpec) -> Hashable:
    """What must agree for runs to be one batched program."""
    learner = run.learner
    if isinstance(learner, Recipe):
        # What tells two schedules apart is no part of the shape: the arms of one recipe share a pack.
        recipe = tuple((name, getattr(learner, name)) for name in Recipe.model_fields)
        hierarchy = hierarchy_of(run.target)
        shape = (
            tuple(hierarchy.widths.items()),
            tuple(hierarchy.connections.items()),
            hierarchy.level_one_mean,
        )
        together = isinstance(learner, Joint)
        task = run.target.task if isinstance(run.target, LabelledTarget) else "regression"
        exact = learner.constants if isinstance(learner, AlgorithmOne) and learner.mode == "exact" else None
        search = learner.search if isinstance(learner, AlgorithmOne) else None
        return ("hierarchical", together, exact, search, recipe, shape, task, run.dim, run.budget, run.inputs)
    if isinstance(learner, KernelRidge):
        # Nested samples have nested grams: runs of every n keep company.
        return ("single", learner.kind, run.dim)
    return ("single", learner.kind, run.n, run.dim)


def _gram_key(run: RunSpec) -> Hashable:
    """What must agree for the gram of fewer samples to be a part of the gram of more; None where none is made."""
    learner = run.learner
    if not isinstance(learner, KernelRidge) or learner.solver != "exact":
        return None
    return (learner.kernel, learner.feature_map, run.inputs, run.dim, run.seed)


def _staged_packs(
    group: list[RunSpec], max_members: int, memory_bytes: int | None = None
) -> list[list[RunSpec]]:
    """Keep the arms of one seed together, so that their common stages are trained once.

    Seeds stay together too, whatever n: a target and its test rows are then drawn once a pack and not once a size.
    On a CPU short runs keep company beyond those that are stepped together, for their refinements gain by it. Where
    memory counts, arms share their samples. Arms that do not fit together are a pack nevertheless.
    """
    target_of = _target_names(group)
    seeds: defaultdict[Hashable, defaultdict[int, list[RunSpec]]] = defaultdict(lambda: defaultdict(list))
    for run in group:
        seeds[target_of[id(run.target)], run.seed][run.n].append(run)
    recipe = _recipe(group[0])
    step = 0 if memory_bytes is None else step_bytes(group[0], recipe)
    together = fastest_members(group[0], recipe)
    seconds_of = _seconds_by_size(group)
    packs: list[list[RunSpec]] = [[]]
    bytes_held, seconds = 0, 0.0
    for sizes in seeds.values():
        for n, members in sizes.items():
            needed = 0 if memory_bytes is None else sample_bytes(members[0]) + len(members) * step
            cost = sum(seconds_of[n, id(run.learner)] for run in members)
            count = len(packs[-1]) + len(members)
            if memory_bytes is None:
                is_long = seconds + cost > SHORT_PACK_SECONDS and count > together
            else:
                is_long = bytes_held + needed > memory_bytes
            if packs[-1] and (count > max_members or is_long):
                packs.append([])
                bytes_held, seconds = 0, 0.0
            packs[-1].extend(members)
            bytes_held += needed
            seconds += cost
    return packs


def _seconds_by_size(group: Iterable[RunSpec]) -> dict[tuple[int, int], float]:
    """Estimates by n and by the ``id`` of the learner: runs of a grid share one object, and seeds change nothing."""
    return {key: estimate_run(run).seconds for key, run in {(r.n, id(r.learner)): r for r in group}.items()}


def _recipe(run: RunSpec) -> Recipe:
    if not isinstance(run.learner, Recipe):
        raise TypeError(f"{run.learner.kind} trains no network")
    return run.learner


def _target_names(group: Iterable[RunSpec]) -> dict[int, str]:
    """The canonical JSON of every target by its ``id``: runs of a grid share one object, and its text is long."""
    return {key: target.canonical_json() for key, target in {id(r.target): r.target for r in group}.items()}


def fastest_members(run: RunSpec, learner: Recipe) -> int:
    """Members of this shape whose arrays of one step stay in a CPU's cache together, 1 to MAX_MEMBERS.

    What stands together for another reason, such as the arms of a seed, is stepped in groups of so many.
    """
    return min(MAX_MEMBERS, members_within(run, learner, CACHE_BYTES))


def members_within(run: RunSpec, learner: Recipe, memory_bytes: int) -> int:
    """Members of this shape whose arrays of one step fit so many bytes, at least 1: those stepped together on a GPU."""
    return max(1, memory_bytes // step_bytes(run, learner))


def sample_bytes(run: RunSpec) -> int:
    """Bytes of a run's samples and labels where it trains; in classification a row has x₀ beside x."""
    is_margin = isinstance(run.target, LabelledTarget) and run.target.task == "classification"
    return _size(_recipe(run)) * run.n * (run.dim + 1 + is_margin)


def step_bytes(run: RunSpec, learner: Recipe) -> int:
    """Bytes of the arrays that one member's step reads and writes."""
    hierarchy = hierarchy_of(run.target)
    lifted = {level: k * (k + 1) // 2 for level, k in hierarchy.widths.items()}
    read = {
        level: sum(run.dim if source < LOWEST_LEVEL else lifted[source] for source in sources)
        for level, sources in hierarchy.connections.items()
    }
    feeding = {source for sources in hierarchy.connections.values() for source in sources} & set(lifted)
    # A batch of h and W h of every level, of R S and its gradient where a level feeds another; then W and K with
    # their gradient and the optimiser's two moments.
    columns = sum(read[level] + min(read[level], learner.width) for level in read)
    columns += sum(2 * lifted[level] for level in feeding)
    parameters = sum(read[level] * (learner.width + k) for level, k in hierarchy.widths.items())
    return _size(learner) * (learner.batch_size * columns + 4 * parameters)


def _size(learner: Recipe) -> int:
    """Bytes of one number."""
    return 4 if learner.precision == "float32" else 8


def _short_packs(group: list[RunSpec], max_members: int) -> list[list[RunSpec]]:
    packs: list[list[RunSpec]] = []
    group = _grams_together(group)
    seconds = SHORT_PACK_SECONDS
    for run in group:
        cost = estimate_run(run).seconds
        if seconds + cost > SHORT_PACK_SECONDS or len(packs[-1]) >= max_members:
            packs.append([])
            seconds = 0.0
        packs[-1].append(run)
        seconds += cost
    return packs


def _grams_together(group: list[RunSpec]) -> list[RunSpec]:
    """Runs that share a gram beside each other, the largest first, so that it contains those that follow.

    Families of one seed follow each other: its targets and test rows are then drawn once for all of them.
    """
    target_of = _target_names(group)
    seeds: defaultdict[int, defaultdict[Hashable, list[RunSpec]]] = defaultdict(lambda: defaultdict(list))
    for run in group:
        seeds[run.seed][_gram_key(run) or target_of[id(run.target)]].append(run)
    return [
        run
        for families in seeds.values()
        for name, family in families.items()
        for run in (family if isinstance(name, str) else sorted(family, key=lambda run: -run.n))
    ]


def _estimate_hierarchical(run: RunSpec, learner: HierarchicalLearner) -> Estimate:
    size = _size(learner)
    steps = 2 * len(hierarchy_of(run.target).widths) * learner.steps_per_stage
    seconds_a_step = SECONDS_A_STEP
    if isinstance(learner, AlgorithmOne) and learner.mode == "exact":
        steps, seconds_a_step = learner.constants.max_steps, SECONDS_AN_EXACT_STEP
    if isinstance(learner, AlgorithmOne) and learner.search is not None:
        steps *= learner.search.guesses
    stepped = planned_network_flops(run, learner, refined=False)
    refined = planned_network_flops(run, learner) - stepped
    seconds = (steps * seconds_a_step + stepped / STEPPED_FLOPS) * (size / 4) + refined / REFINED_FLOPS
    samples = run.n + run.budget.test_samples
    memory_bytes = size * 2 * run.dim * samples + _stepped_bytes(learner)
    if learner.refinement_steps:
        memory_bytes += refinement_bytes(run.n, run.dim)
    return Estimate(seconds + 0.05, memory_bytes)


def _stepped_bytes(learner: Recipe) -> int:
    return _size(learner) * 8 * learner.batch_size * learner.width * 10


def _estimate_kernel_ridge(run: RunSpec, learner: KernelRidge) -> Estimate:
    cost = _mapped(run, learner)
    return Estimate(0.05 + kernel_ridge_seconds(learner, *cost), kernel_ridge_memory_bytes(learner, *cost))
