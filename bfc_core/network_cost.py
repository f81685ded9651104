"""What runs that train networks cost: seconds, memory, and how many members are stepped together. Free of torch."""

from bfc_core.flops.networks import planned_network_flops
from bfc_core.specs import (
    LOWEST_LEVEL,
    AlgorithmOne,
    HierarchicalLearner,
    Hierarchy,
    LabelledTarget,
    Layerwise,
    MatchedComputeControl,
    Recipe,
    RunSpec,
    hierarchy_of,
)
from bfc_core.specs.plain_targets import PlainTarget
from bfc_core.training.schedule import Stage, refinement_bytes, stages_of

MAX_MEMBERS = 16
"""Members of one batched program: the cost of starting an operation is shared well enough by then."""

CACHE_BYTES = 8 * 2**20
"""What the arrays of one step may fill together: of the order of a core's cache. Past it a member more saves little,
since every operation then waits for memory."""

SECONDS_A_STEP, SECONDS_AN_EXACT_STEP = 1.0e-4, 4.5e-4
"""What a step costs beside its products."""

STEPPED_FLOPS, REFINED_FLOPS = 4e10, 5e9
"""Products a second on one core: of steps in float32, and of refinements, which are in float64 and often short."""

SECONDS_A_NUMBER, SAMPLE_COPIES = 4e-8, 3
"""What drawing a number of the samples takes, and how often a training process holds it, as float64."""

SECONDS_A_REFINEMENT = 0.012
"""What a refinement costs beside its products: a dozen steps, each of some sixty short operations."""

LIBRARY_BYTES = 48 * 2**20
"""What a process grows by with its first pack, refinements included."""

ROWS_OF_A_TARGET, ROWS_OF_A_BLOCK = 16_384, 1024
"""Rows on which a target is normalised, and rows that are drawn at a time."""


def network_seconds(run: RunSpec, learner: HierarchicalLearner) -> float:
    """Seconds of a run on one core."""
    steps = 2 * len(hierarchy_of(run.target).widths) * learner.steps_per_stage
    seconds_a_step = SECONDS_A_STEP
    if isinstance(learner, AlgorithmOne) and learner.mode == "exact":
        steps, seconds_a_step = learner.constants.max_steps, SECONDS_AN_EXACT_STEP
    if isinstance(learner, AlgorithmOne) and learner.search is not None:
        steps *= learner.search.guesses
    stepped = planned_network_flops(run, learner, refined=False)
    refined = (planned_network_flops(run, learner) - stepped) / REFINED_FLOPS
    if refined:
        refined += SECONDS_A_REFINEMENT * sum(stage.refines for stage in _stages(run, learner))
    if _foresees_restarts(run, learner):
        refined *= 1 + learner.restarts
    seconds = (steps * seconds_a_step + stepped / STEPPED_FLOPS) * _number_bytes(learner) / 4
    numbers = _sample_numbers(run) + row_length(run) * (ROWS_OF_A_TARGET + 2 * ROWS_OF_A_BLOCK)
    return seconds + refined + SECONDS_A_NUMBER * numbers


def held_bytes(run: RunSpec, learner: HierarchicalLearner) -> int:
    """What a training process holds of a run: its samples, and its network as every stage left it."""
    copies = 8 * SAMPLE_COPIES * _sample_numbers(run)
    if learner.refinement_steps:
        copies += refinement_bytes(run.n, run.dim)
    stages = len(_stages(run, learner))
    return copies + _number_bytes(learner) * _parameters(run, learner) * (stages + 2)


def shared_bytes(run: RunSpec) -> int:
    """What of :func:`held_bytes` runs of one target, seed and n have in common: their samples."""
    return 8 * SAMPLE_COPIES * _sample_numbers(run)


def begun_bytes(run: RunSpec) -> int:
    """What a pack takes however many members it has: what libraries make, and the rows that normalise a target."""
    return LIBRARY_BYTES + 2 * 8 * ROWS_OF_A_TARGET * row_length(run)


def stepped_bytes(run: RunSpec, learner: Recipe) -> int:
    """What training takes beside :func:`held_bytes` for a member that is stepped, with batches fetched ahead."""
    return 2 * step_bytes(run, learner)


def fastest_members(run: RunSpec, learner: Recipe) -> int:
    """Members of this shape whose arrays of one step stay in a CPU's cache together, 1 to MAX_MEMBERS.

    What stands together for another reason, such as the arms of a seed, is stepped in groups of so many.
    """
    return min(MAX_MEMBERS, members_within(run, learner, CACHE_BYTES))


def members_within(run: RunSpec, learner: Recipe, memory_bytes: int) -> int:
    """Members of this shape whose arrays of one step fit so many bytes, at least 1: those stepped together on a GPU."""
    return max(1, memory_bytes // step_bytes(run, learner))


def is_stepped_in_parts(learner: Recipe) -> bool:
    """Whether a pack steps no more members at a time than are fastest; the exact mode steps all of them."""
    return not (isinstance(learner, AlgorithmOne) and learner.mode == "exact")


def sample_bytes(run: RunSpec, learner: Recipe) -> int:
    """Bytes of a run's samples and labels where it trains."""
    return _number_bytes(learner) * run.n * (row_length(run) + 1)


def step_bytes(run: RunSpec, learner: Recipe) -> int:
    """Bytes of the arrays that one member's step reads and writes."""
    hierarchy = hierarchy_of(run.target)
    lifted, read = _lifted_lengths(hierarchy), _read_lengths(run, hierarchy)
    feeding = {source for sources in hierarchy.connections.values() for source in sources} & set(lifted)
    # A batch of h and W h of every level, of R S and its gradient where a level feeds another; then W and K with
    # their gradient and the optimiser's two moments.
    columns = sum(read[level] + min(read[level], learner.width) for level in read)
    columns += sum(2 * lifted[level] for level in feeding)
    return _number_bytes(learner) * (learner.batch_size * columns + 4 * _parameters(run, learner))


def row_length(run: RunSpec) -> int:
    """Numbers that a learner reads of a sample: in classification rows are (x₀, x)."""
    is_longer = isinstance(run.target, LabelledTarget) and run.target.task == "classification"
    return run.dim + 1 if is_longer else run.dim


def _stages(run: RunSpec, learner: HierarchicalLearner) -> tuple[Stage, ...]:
    return stages_of(learner, hierarchy_of(run.target))


def _foresees_restarts(run: RunSpec, learner: HierarchicalLearner) -> bool:
    """Whether a refinement ends at a floor, from which all restarts are tried: noise, labels, a frozen lower level."""
    target = run.target
    is_exact = not (isinstance(target, LabelledTarget | PlainTarget) and target.label_noise)
    if isinstance(target, LabelledTarget):
        is_exact = is_exact and target.task == "regression" and not target.misspecification
    return not is_exact or isinstance(learner, Layerwise | MatchedComputeControl)


def _sample_numbers(run: RunSpec) -> int:
    return row_length(run) * (run.n + run.budget.test_samples)


def _parameters(run: RunSpec, learner: Recipe) -> int:
    """Entries of W and K."""
    hierarchy = hierarchy_of(run.target)
    read = _read_lengths(run, hierarchy)
    return sum(read[level] * (learner.width + k) for level, k in hierarchy.widths.items())


def _lifted_lengths(hierarchy: Hierarchy) -> dict[int, int]:
    """Length of what every level hands on."""
    return {level: k * (k + 1) // 2 for level, k in hierarchy.widths.items()}


def _read_lengths(run: RunSpec, hierarchy: Hierarchy) -> dict[int, int]:
    """Length of what every level reads."""
    lifted = _lifted_lengths(hierarchy)
    return {
        level: sum(run.dim if source < LOWEST_LEVEL else lifted[source] for source in sources)
        for level, sources in hierarchy.connections.items()
    }


def _number_bytes(learner: Recipe) -> int:
    return 4 if learner.precision == "float32" else 8
