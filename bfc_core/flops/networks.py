"""FLOPs of the quadratic network: a step of a stage, a value, a refinement. Free of torch.

The closed forms follow the products of :mod:`bfc_core.networks.batch_gradient` (steps),
:mod:`bfc_core.networks.distilled_densenet` (values and Jacobians) and the two regularisers, for one member: what a
member of a pack costs does not depend on the others.

Letters: b rows of a batch, i length of h_ℓ, m rows of W, k rows of K, r rows of W and K in use, q length of R S.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

from bfc_core.flops.algebra import cholesky, eigendecomposition, product, singular_vectors, triangular_solve
from bfc_core.specs import LOWEST_LEVEL, AlgorithmOne, HierarchicalLearner, Hierarchy, RunSpec, hierarchy_of
from bfc_core.training.schedule import Stage, can_be_refined, stages_of

STEPPED_FORM_ADVANTAGE = 0.75
"""A step uses W through M = WᵀW while i ≤ this · m: fewer operations, but two products instead of one."""

FORM_ADVANTAGE = 2
"""A value uses M_ℓ while i ≤ this · m; above, W_ℓ is applied directly."""

TYPICAL_REFINEMENT_STEPS = 12
"""Gauss–Newton steps until one gains nothing any more, which is nearly always before the most that is allowed."""


_LINE = 8
"""float64 numbers of a cache line."""


def whole_lines(parameters: int) -> int:
    """The size of the matrix that is factored for so many parameters: of whole cache lines."""
    return -(-parameters // _LINE) * _LINE


@dataclass(frozen=True)
class _Level:
    """Sizes of one level."""

    lengths: dict[int, int]
    k: int

    @property
    def i(self) -> int:
        return sum(self.lengths.values())

    @property
    def q(self) -> int:
        return self.k * (self.k + 1) // 2


@dataclass(frozen=True)
class NetworkFlops:
    """What one member of this shape costs.

    Args:
        hierarchy: what the learner is told of its target.
        dim: length of x.
        width: m.
    """

    hierarchy: Hierarchy
    dim: int
    width: int

    @cached_property
    def _levels(self) -> dict[int, _Level]:
        levels: dict[int, _Level] = {}
        for level, k in self.hierarchy.widths.items():
            sources = self.hierarchy.connections[level]
            levels[level] = _Level({j: self.dim if j < LOWEST_LEVEL else levels[j].q for j in sources}, k)
        return levels

    def step(self, stage: Stage, batch_size: int) -> int:
        """One optimiser step of a stage: the data term on a batch, and Reg."""
        return self._data_gradient(
            stage.active, stage.trainable, frozenset(stage.tied), batch_size
        ) + self._regularizer_gradient(stage)

    def exact_step(self) -> int:
        """One step of the exact mode: one sample, all levels, Reg with its own λ for every level."""
        levels = tuple(self._levels)
        return self._data_gradient(levels, levels, frozenset(), 1) + 2 * self._exact_regularizer()

    def exact_look(self, rows: int) -> int:
        """One look of the exact mode at its objective on so many samples."""
        return self.value(tuple(self._levels), (), rows) + self._exact_regularizer()

    def value(self, active: tuple[int, ...], tied: tuple[int, ...], rows: int) -> int:
        """F of so many rows over the active levels."""
        flops = 0
        for level in active:
            shape = self._levels[level]
            if level in tied:
                flops += product(rows, shape.i, shape.k)
            elif shape.i <= FORM_ADVANTAGE * self.width:
                flops += product(shape.i, self.width, shape.i) + product(rows, shape.i, shape.i)
            else:
                flops += product(rows, shape.i, self.width)
            if self._feeds(level, active):
                flops += product(rows, shape.k, shape.q)
                flops += 0 if level in tied else product(rows, shape.i, shape.k)
        return flops

    def distillation(self, level: int) -> int:
        """InitialDistill of a level: WᵀW, and its eigendecomposition or the SVD of the block between ◁ and ℓ − 1."""
        shape = self._levels[level]
        form = product(shape.i, self.width, shape.i)
        below = shape.lengths.get(level - 1, 0)
        if below in {0, shape.i}:
            return form + eigendecomposition(shape.i)
        split = singular_vectors(shape.i - below, below)
        return form + split + product(below, min(shape.k, below, shape.i - below), below)

    def parameters(self, levels: tuple[int, ...]) -> int:
        """Entries of K."""
        return sum(self._levels[level].k * self._levels[level].i for level in levels)

    def refinement(self, stage: Stage, rows: int, steps: int) -> int:
        """So many accepted Gauss–Newton steps, each with its value, normal equations and solve."""
        value = self.value(stage.active, stage.tied, rows)
        equations = self.equations(stage.active, stage.trainable, stage.tied, rows)
        return value + equations + steps * (self.solve(stage.trainable) + value + equations)

    def equations(
        self, active: tuple[int, ...], trainable: tuple[int, ...], tied: tuple[int, ...], rows: int
    ) -> int:
        """The normal equations of a Gauss–Newton step over so many rows."""
        parameters = self.parameters(trainable)
        return (
            self.value(active, tied, rows)
            + self._reaches(active, trainable, rows)
            + product(parameters, rows, parameters)
            + product(parameters, rows, 1)
        )

    def solve(self, trainable: tuple[int, ...]) -> int:
        """A Gauss–Newton step from its normal equations, and what it promises."""
        parameters = whole_lines(self.parameters(trainable))
        return cholesky(parameters) + 2 * triangular_solve(parameters, 1) + product(1, parameters, 1)

    # ---- parts -----------------------------------------------------------------------------------

    def _feeds(self, level: int, active: tuple[int, ...]) -> bool:
        return any(level in self._levels[above].lengths for above in active if above > level)

    def _data_gradient(
        self, active: tuple[int, ...], trainable: tuple[int, ...], tied: frozenset[int], b: int
    ) -> int:
        lowest = max(LOWEST_LEVEL, min(trainable))
        flops = 0
        for level in active:
            shape, feeds = self._levels[level], self._feeds(level, active)
            i, k, m = shape.i, shape.k, self.width
            by_form = level not in tied and i <= STEPPED_FORM_ADVANTAGE * m
            r = k if level in tied else m + k if feeds else m
            lifted = product(shape.q, k, b) if feeds else 0
            # K h or what reaches it, where W is used through its form.
            narrow = product(k, i, b) if feeds else 0
            flops += product(i, m, i) + product(i, i, b) + narrow if by_form else product(r, i, b)
            flops += lifted
            # Sum(F_ℓ), and the α_ℓ in front of it.
            flops += product(1, k if level in tied else i if by_form else m, b)
            if level < lowest:
                continue
            flops += lifted
            for source, length in shape.lengths.items():
                if source >= lowest and not by_form:
                    flops += product(length, r, b)
                elif source >= lowest and feeds:
                    flops += product(length, k, b)
            if level in trainable:
                flops += product(i, b, i) + product(m, i, i) + narrow if by_form else product(r, b, i)
        return flops

    def _regularizer_gradient(self, stage: Stage) -> int:
        flops = 0
        for level in stage.trainable:
            if level in stage.distilled and level not in stage.tied:
                shape = self._levels[level]
                r = self.width + shape.k
                flops += 4 * r * shape.i * min(r, shape.i)
        return flops

    def _exact_regularizer(self) -> int:
        """KᵀK and WᵀW of every level; the gradient's two further products cost as much."""
        return sum(product(shape.i, self.width + shape.k, shape.i) for shape in self._levels.values())

    def _reaches(self, active: tuple[int, ...], trainable: tuple[int, ...], rows: int) -> int:
        """∂F/∂S_ℓ of every row."""
        lowest = max(LOWEST_LEVEL, min(trainable))
        flops = 0
        for level in active:
            shape = self._levels[level]
            if self._feeds(level, active) and level >= lowest:
                flops += product(rows, shape.q, shape.k)
            flops += sum(
                product(rows, shape.k, length) for source, length in shape.lengths.items() if source >= lowest
            )
        return flops


def planned_network_flops(run: RunSpec, learner: HierarchicalLearner, *, refined: bool = True) -> int:
    """FLOPs of a run whose stages all have their number of steps; of a refinement, those of a typical one or none.

    Restarts and earlier ends of stages are not foreseen.
    """
    told = hierarchy_of(run.target)
    shape = tuple(told.widths.items()), tuple(told.connections.items())
    return _planned(learner, *shape, run.n, run.dim, run.budget.test_samples, refined)


@lru_cache(maxsize=4096)
def _planned(
    learner: HierarchicalLearner,
    widths: tuple[tuple[int, int], ...],
    connections: tuple[tuple[int, tuple[int, ...]], ...],
    n: int,
    dim: int,
    test_samples: int,
    refined: bool,  # noqa: FBT001 - a part of the cache's key
) -> int:
    """What a run's seed and α do not change, once for all of them: a plan has thousands."""
    hierarchy = Hierarchy(dict(widths), {level: 1.0 for level, _ in widths}, dict(connections), 0.0)
    network = NetworkFlops(hierarchy, dim, learner.width)
    levels = hierarchy.levels
    if isinstance(learner, AlgorithmOne) and learner.mode == "exact":
        mode = learner.constants
        looks = mode.max_steps // mode.check_every + 1
        distilled = sum(network.distillation(level) for level in levels)
        trained = mode.max_steps * network.exact_step() + looks * network.exact_look(mode.checked_samples)
        return trained + distilled + network.value(levels, (), test_samples)
    stages = stages_of(learner, hierarchy)
    last = stages[-1]
    stages = tuple(stage for stage in stages if refined or not stage.refines)
    if isinstance(learner, AlgorithmOne) and learner.search is not None:
        search = learner.search
        held_out = max(1, round(search.validation_fraction * n))
        flops = 0
        for wiring in search.connections or (tuple(hierarchy.connections.values()),):
            told = Hierarchy(
                hierarchy.widths,
                hierarchy.alphas,
                dict(zip(levels, wiring, strict=True)),
                hierarchy.level_one_mean,
            )
            guess = NetworkFlops(told, dim, learner.width)
            each = _planned_training(guess, stages, learner, n - held_out)
            each += guess.value(last.active, last.tied, held_out)
            flops += len(search.alphas or (None,)) * each
        return flops + network.value(last.active, last.tied, test_samples)
    trained = _planned_training(network, stages, learner, n)
    return trained + network.value(last.active, last.tied, test_samples)


def _planned_training(
    network: NetworkFlops, stages: tuple[Stage, ...], learner: HierarchicalLearner, rows: int
) -> int:
    flops = 0
    for stage in stages:
        flops += 0 if stage.enters is None else network.distillation(stage.enters)
        if stage.refines and not can_be_refined(network.parameters(tuple(network.hierarchy.levels)), rows):
            continue
        if stage.refines:
            flops += network.refinement(stage, rows, min(TYPICAL_REFINEMENT_STEPS, stage.steps))
        else:
            flops += stage.steps * network.step(stage, learner.batch_size)
    return flops
