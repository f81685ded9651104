"""Runs → packs, and what runs and packs are expected to cost. Free of torch; pure.

A pack is a list of runs that one worker executes together. Hierarchical learners whose tensor shapes
agree train as one batched program, whatever their seeds, alphas and n. Beyond what such a program steps together, and
of kernel runs, which gain little from company, a pack takes more only while it stays short and loses little to a crash.
"""

import math
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
from bfc_core.network_cost import (
    begun_bytes,
    fastest_members,
    held_bytes,
    is_stepped_in_parts,
    network_seconds,
    row_length,
    sample_bytes,
    shared_bytes,
    step_bytes,
    stepped_bytes,
)
from bfc_core.specs import (
    AlgorithmOne,
    AnyLearner,
    Array,
    DataSet,
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

SHORT_PACK_SECONDS = 8.0
"""Runs are grouped up to this estimate; networks that train longer still as many as are stepped together."""

SHORT_PACK_BYTES = 2**29
"""And up to this estimate of what networks hold beside a step's arrays: their samples, and themselves by stage."""

SHARE_OF_A_BUDGET = 0.25
"""Of the seconds that a budget leaves a pack: an estimate may be too low by as much."""

MAX_SHORT_MEMBERS = 256
"""Runs of one pack, however short or however large the device: bounds the transactions that claim it and store its
reports."""


@dataclass(frozen=True)
class Estimate:
    """Predicted cost of one run or pack on one core."""

    seconds: float
    memory_bytes: int


def packs_of(
    runs: Iterable[RunSpec],
    max_members: int | None = None,
    gpu_memory_bytes: int | None = None,
    memory_limit_bytes: int | None = None,
) -> list[list[RunSpec]]:
    """Group runs into packs; every run appears once, in a stable order.

    Without ``max_members`` a pack has as many as train fastest for their shape: on a CPU as its cache holds, and more
    where they are short; on a GPU as many as ``gpu_memory_bytes`` hold with their samples, up to
    :data:`MAX_SHORT_MEMBERS`. With ``max_members`` a pack has no more, and on a CPU as many however long they are. With
    both, whichever is fewer; a single run too large for these bytes is a pack all the same. With 1 every run is alone.
    Networks keep company only within ``memory_limit_bytes`` of their process.
    """
    if max_members == 1:
        return [[run] for run in runs]
    groups: defaultdict[Hashable, list[RunSpec]] = defaultdict(list)
    for run in runs:
        groups[_shape_key(run)].append(run)
    packs: list[list[RunSpec]] = []
    for group in groups.values():
        if not isinstance(group[0].learner, Recipe):
            packs.extend(_short_packs(group, min(MAX_SHORT_MEMBERS, max_members or MAX_SHORT_MEMBERS)))
            continue
        most, estimates = max_members or MAX_SHORT_MEMBERS, _Estimates(group)
        within = _KeepsWithin(estimates, math.inf if memory_limit_bytes is None else memory_limit_bytes)
        if gpu_memory_bytes is None:
            short = _IsShort(estimates, max_members or estimates.together)
            packs.extend(_staged_packs(group, most, within, short))
        else:
            fits = _FitsTheDevice(group[0], gpu_memory_bytes)
            packs.extend(_staged_packs(group, min(MAX_SHORT_MEMBERS, most), within, fits))
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
            memory_bytes = begun_bytes(run) + held_bytes(run, learner) + stepped_bytes(run, learner)
            return Estimate(0.05 + network_seconds(run, learner), memory_bytes)
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

    The arrays of a step count for as many members as a CPU steps together, samples once for all arms of a seed.
    """
    singles = [estimate_run(run) for run in pack]
    seconds = sum(single.seconds for single in singles)
    learner = pack[0].learner
    if isinstance(learner, Recipe):
        together = fastest_members(pack[0], learner) if is_stepped_in_parts(learner) else len(pack)
        begun, stepped = begun_bytes(pack[0]), stepped_bytes(pack[0], learner)
        held = sum(single.memory_bytes - begun - stepped for single in singles)
        # Arms of one seed read the same samples.
        target_of = _target_names(pack)
        known = {(target_of[id(run.target)], run.seed, run.n): shared_bytes(run) for run in pack}
        held -= sum(map(shared_bytes, pack)) - sum(known.values())
        return Estimate(seconds, begun + held + min(len(pack), together) * stepped)
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


def _mapped(run: RunSpec, learner: KernelRidge | RecursiveFeatureMachine) -> tuple[int, int, int]:
    """n, the length of what the learner's feature map makes of a row, and test samples."""
    dim = row_length(run)
    return run.n, dim if learner.feature_map == "identity" else 2 * dim, run.budget.test_samples


def _targets(run: RunSpec) -> int:
    """Numbers that are predicted for a sample."""
    return (run.target.sizes.classes or 1) if isinstance(run.target, DataSet) else 1


def is_one_program(runs: Sequence[RunSpec]) -> bool:
    """Whether runs may share a pack, however many they are."""
    return len({_shape_key(run) for run in runs}) == 1


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
    group: list[RunSpec], most: int, within: "_KeepsWithin", fits: "_FitsTheDevice | _IsShort"
) -> list[list[RunSpec]]:
    """Keep the arms of one seed together, so that their common stages are trained once.

    Seeds stay together too, whatever n: a target and its test rows are then drawn once a pack and not once a size.
    At most ``most`` runs are a pack. On a GPU so many as fit, where arms share their samples; on a CPU as many as are
    stepped together, and more while they are short, for their refinements gain by company. Arms of one seed that do
    not fit together are a pack nevertheless; where a process has not the memory for them, each is one.
    """
    target_of = _target_names(group)
    seeds: defaultdict[Hashable, defaultdict[int, list[RunSpec]]] = defaultdict(lambda: defaultdict(list))
    for run in group:
        seeds[target_of[id(run.target)], run.seed][run.n].append(run)
    packs: list[list[RunSpec]] = [[]]
    for arms in (arms for sizes in seeds.values() for arms in sizes.values()):
        for members in [arms] if within.holds_alone(arms) else [[run] for run in arms]:
            count = len(packs[-1]) + len(members)
            is_held = within.holds(members, count) and fits.holds(members, count)
            if packs[-1] and (count > most or not is_held):
                packs.append([])
                within.begin()
                fits.begin()
            packs[-1].extend(members)
            within.take(members)
            fits.take(members)
    return packs


class _Estimates:
    """What the networks of a group cost, each estimated once: seeds change nothing, and a grid's runs share objects."""

    def __init__(self, group: Sequence[RunSpec]) -> None:
        recipe = _recipe(group[0])
        self.budget_seconds = group[0].budget.seconds or math.inf
        self.short_seconds = _short_seconds(group[0])
        self.is_stepped_in_parts = is_stepped_in_parts(recipe)
        self.begun_bytes, self.stepped_bytes = begun_bytes(group[0]), stepped_bytes(group[0], recipe)
        self.together = fastest_members(group[0], recipe)
        self._known = {key: estimate_run(run) for key, run in {self._key(run): run for run in group}.items()}

    def of(self, arms: Sequence[RunSpec]) -> tuple[float, int]:
        """Seconds, and bytes held, of runs that have their samples in common."""
        each = [self._known[self._key(run)] for run in arms]
        held = sum(estimate.memory_bytes - self.begun_bytes - self.stepped_bytes for estimate in each)
        return sum(estimate.seconds for estimate in each), held - (len(arms) - 1) * shared_bytes(arms[0])

    @staticmethod
    def _key(run: RunSpec) -> tuple[int, int, int]:
        return id(run.target), id(run.learner), run.n


class _KeepsWithin:
    """Whether a pack's process keeps within so many bytes, as :func:`estimate_pack` has it."""

    def __init__(self, estimates: _Estimates, limit_bytes: float) -> None:
        self._estimates, self._limit_bytes = estimates, limit_bytes
        self.begin()

    def begin(self) -> None:
        self._held = 0

    def holds(self, members: Sequence[RunSpec], count: int) -> bool:
        together = self._estimates.together if self._estimates.is_stepped_in_parts else count
        stepped = min(count, together) * self._estimates.stepped_bytes + self._estimates.begun_bytes
        return self._held + self._estimates.of(members)[1] + stepped <= self._limit_bytes

    def holds_alone(self, members: Sequence[RunSpec]) -> bool:
        """Whether these members are not too many by themselves."""
        return _KeepsWithin(self._estimates, self._limit_bytes).holds(members, len(members))

    def take(self, members: Sequence[RunSpec]) -> None:
        self._held += self._estimates.of(members)[1]


class _FitsTheDevice:
    """Whether members with equal samples fit beside those that a pack has in the memory of a GPU."""

    def __init__(self, run: RunSpec, memory_bytes: int) -> None:
        self._recipe = _recipe(run)
        self._step, self._memory_bytes, self._held = step_bytes(run, self._recipe), memory_bytes, 0

    def begin(self) -> None:
        self._held = 0

    def holds(self, members: Sequence[RunSpec], count: int) -> bool:  # noqa: ARG002 - as the other one
        return self._held + self._bytes(members) <= self._memory_bytes

    def take(self, members: Sequence[RunSpec]) -> None:
        self._held += self._bytes(members)

    def _bytes(self, members: Sequence[RunSpec]) -> int:
        return sample_bytes(members[0], self._recipe) + len(members) * self._step


class _IsShort:
    """Whether a pack stays short and small with more members, or has so few that it may be as long as its budget.

    Short networks gain by company, for they are refined side by side; longer ones are as many as are stepped together.
    """

    def __init__(self, estimates: _Estimates, long: int) -> None:
        self._estimates, self._long = estimates, long
        self.begin()

    def begin(self) -> None:
        self._seconds, self._bytes = 0.0, 0

    def holds(self, members: Sequence[RunSpec], count: int) -> bool:
        seconds, held = self._estimates.of(members)
        if count <= self._long and self._seconds + seconds <= self._estimates.budget_seconds:
            return True
        is_short = self._seconds + seconds <= self._estimates.short_seconds
        return self._estimates.is_stepped_in_parts and is_short and self._bytes + held <= SHORT_PACK_BYTES

    def take(self, members: Sequence[RunSpec]) -> None:
        seconds, held = self._estimates.of(members)
        self._seconds += seconds
        self._bytes += held


def _short_seconds(run: RunSpec) -> float:
    """What a pack of runs that share a budget may be estimated to take."""
    budget = run.budget.seconds
    return SHORT_PACK_SECONDS if budget is None else min(SHORT_PACK_SECONDS, SHARE_OF_A_BUDGET * budget)


def _recipe(run: RunSpec) -> Recipe:
    if not isinstance(run.learner, Recipe):
        raise TypeError(f"{run.learner.kind} trains no network")
    return run.learner


def _target_names(group: Iterable[RunSpec]) -> dict[int, str]:
    """The canonical JSON of every target by its ``id``: runs of a grid share one object, and its text is long."""
    return {key: target.canonical_json() for key, target in {id(r.target): r.target for r in group}.items()}


def _short_packs(group: list[RunSpec], max_members: int) -> list[list[RunSpec]]:
    packs: list[list[RunSpec]] = []
    seconds = 0.0
    for run in _grams_together(group):
        cost = estimate_run(run).seconds
        if not packs or seconds + cost > _short_seconds(run) or len(packs[-1]) >= max_members:
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


def _estimate_kernel_ridge(run: RunSpec, learner: KernelRidge) -> Estimate:
    cost = _mapped(run, learner)
    return Estimate(0.05 + kernel_ridge_seconds(learner, *cost), kernel_ridge_memory_bytes(learner, *cost))
