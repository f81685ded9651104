"""Targets: the functions that learners are asked to find."""

import itertools
from dataclasses import dataclass
from typing import Annotated, Literal, Self, assert_never

from pydantic import AfterValidator, Field, field_validator, model_validator

from bfc_core.specs.base import NonNegativeFloat, Spec
from bfc_core.specs.data_sets import Array, DataSet
from bfc_core.specs.images import Images
from bfc_core.specs.plain_targets import (
    AnyPlainTarget,
    MultiIndex,
    PlainTarget,
    StackedQuadratic,
    Staircase,
    least_dim_of_plain,
)

Width = Annotated[int, Field(ge=1, le=64)]
Alpha = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]

LOWEST_LEVEL = 2
"""Levels 0 and 1 are the fixed maps x and x² − 1; the first level with weights is 2."""


def default_connections(levels: int) -> dict[int, tuple[int, ...]]:
    """J_ℓ for ``levels`` trainable levels: J_2 = {1}; above, the level below and one skip to level 0 or 1.

    The skip of level ℓ goes to (ℓ − 3) mod 2, which is ≤ ℓ − 3 as arXiv:2001.04413 §3 requires.
    """
    connections: dict[int, tuple[int, ...]] = {LOWEST_LEVEL: (1,)}
    for level in range(LOWEST_LEVEL + 1, LOWEST_LEVEL + levels):
        connections[level] = (level - 1, (level - 3) % 2)
    return connections


@dataclass(frozen=True)
class Hierarchy:
    """The shape that a hierarchical learner is told: widths k_ℓ, weights α_ℓ and connections J_ℓ by level.

    ``level_one_mean`` is what level 1 subtracts: S_1 = x² − level_one_mean.
    """

    widths: dict[int, int]
    alphas: dict[int, float]
    connections: dict[int, tuple[int, ...]]
    level_one_mean: float

    @property
    def levels(self) -> tuple[int, ...]:
        """2 … L."""
        return tuple(self.widths)

    @property
    def top(self) -> int:
        """L."""
        return max(self.widths)


class LabelledTarget(Spec):
    """What every hierarchical target offers beside its function: a task, labels outside its class, a twin.

    ``classification`` (arXiv:2001.04413 §3): the levels are rescaled so that Var G* = 1, the learner reads
    (x₀, x) with x₀ ~ N(−E G*, 1) independent of x, and the label is sgn(x₀ + G*(x)). Both kinds of label error
    then act on x₀ + G*(x). OPT, the least error of any function of the class, is
    :func:`bfc_core.theory.agnostic.optimum_of`.
    """

    task: Literal["regression", "classification"] = "regression"
    label_noise: Annotated[NonNegativeFloat, Field(le=100)] = Field(
        default=0.0, description="standard deviation of the label noise, in standard deviations of the target"
    )
    misspecification: Annotated[float, Field(ge=0, le=0.9, allow_inf_nan=False)] = Field(
        default=0.0,
        description="share of the target's variance that a component outside the class has: a sine too fast for "
        "any polynomial of the target's degree",
    )
    null_twin: Literal["alpha_zero", "random_polynomial"] | None = Field(
        default=None,
        description="destroys the hierarchy above the lowest level: its part vanishes, or becomes a random "
        "polynomial of the same degree, mean and variance; the learner is told the same as before",
    )


class HierarchicalQuadratic(LabelledTarget):
    """The paper's target network: a composition of quadratic levels with decaying output weights.

    ``widths`` are k_2 … k_L, ``alphas`` are α_2 … α_L; the highest level has degree 2^L. Every block W*_{ℓ,j}
    has singular values in [1/κ, κ] times a scalar that gives its level unit scale.
    Source: arXiv:2001.04413 §3. With every α above level 2 at zero it is its own null twin.
    """

    kind: Literal["hierarchical_quadratic"]
    widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=5)] = (3, 2)
    alphas: Annotated[tuple[Alpha, ...], Field(min_length=1, max_length=5)] = (1.0, 0.1)
    connections: dict[int, tuple[int, ...]] | None = Field(
        default=None, description="J_ℓ by level; by default the level below and one skip to level 0 or 1"
    )
    kappa: Annotated[float, Field(ge=1, le=100, allow_inf_nan=False)] = Field(
        default=1.0, description="κ: singular values of every W*_{ℓ,j} are log-spaced in [1/κ, κ]"
    )

    @field_validator("alphas")
    @classmethod
    def _alphas_decay(cls, alphas: tuple[float, ...]) -> tuple[float, ...]:
        return check_alphas(alphas)

    @model_validator(mode="after")
    def _shapes_agree(self) -> Self:
        if len(self.alphas) != len(self.widths):
            raise ValueError(
                f"widths has {len(self.widths)} levels and alphas {len(self.alphas)}: one alpha a level is needed"
            )
        if any(above > below for below, above in zip(self.widths, self.widths[1:], strict=False)):
            raise ValueError("widths must not grow with the level (k_2 ≥ k_3 ≥ …)")
        if self.connections is not None:
            check_connections(self.connections, len(self.widths))
        return self


class WorkedExample1(LabelledTarget):
    """g = x₁² + 2x₂² + α(x₁² + 2x₂² + x₃)², the paper's first example (arXiv:2001.04413 §1; α = 0.1 there)."""

    kind: Literal["worked_example_1"]
    alpha: Alpha = 0.1


class WorkedExample2(LabelledTarget):
    """x₁⁴ + x₂⁴ + α((x₁⁴ + x₃)² + (x₂⁴ + x₄)²), the paper's L = 3 example (arXiv:2001.04413 §1.2)."""

    kind: Literal["worked_example_2"]
    alpha: Alpha = 0.001


class KernelHardInstance(LabelledTarget):
    """The target on which no kernel and no feature map does well: k_ℓ = 1 and p-sparse directions.

    Every block that reads x or x² − 1 is a row with p = 2^{L−1} entries 1/√p, the others 0, at random places
    (times a scalar that gives its level unit scale). The highest level then holds the product of x_i² − 1
    over the p places of level 2, one of C(dim, p) orthogonal functions, and a feature map with fewer than a
    thousandth of so many features misses Ω(α_L²) of it (arXiv:2001.04413 §3, lower bounds).
    ``alphas`` are α_2 … α_L.
    """

    kind: Literal["kernel_hard_instance"]
    alphas: Annotated[tuple[Alpha, ...], Field(min_length=1, max_length=4)] = (1.0, 0.3)

    @field_validator("alphas")
    @classmethod
    def _alphas_decay(cls, alphas: tuple[float, ...]) -> tuple[float, ...]:
        return check_alphas(alphas)

    @property
    def sparsity(self) -> int:
        """p = 2^{L−1}."""
        return int(2 ** len(self.alphas))


AnyTarget = (
    HierarchicalQuadratic
    | WorkedExample1
    | WorkedExample2
    | KernelHardInstance
    | AnyPlainTarget
    | Images
    | Array
)
TargetSpec = Annotated[AnyTarget, Field(discriminator="kind", title="TargetSpec")]


def hierarchy_of(target: AnyTarget) -> Hierarchy:
    """What a hierarchical learner is told: widths, alphas and connections of a target's levels.

    A null twin is described as the target that it is the twin of.
    Example 1 reads x itself at level 2, so its levels have degree 2 and 4; example 2 does not centre level 1.

    Raises:
        ValueError: the target is no hierarchy of quadratic levels.
    """
    match target:
        case HierarchicalQuadratic():
            levels = range(LOWEST_LEVEL, LOWEST_LEVEL + len(target.widths))
            connections = target.connections or default_connections(len(target.widths))
            return Hierarchy(
                widths=dict(zip(levels, target.widths, strict=True)),
                alphas=dict(zip(levels, target.alphas, strict=True)),
                connections={level: tuple(connections[level]) for level in levels},
                level_one_mean=1.0,
            )
        case WorkedExample1():
            return Hierarchy(
                {2: 2, 3: 1}, {2: 1.0, 3: target.alpha}, {2: (0,), 3: (2, 0)}, level_one_mean=1.0
            )
        case WorkedExample2():
            return Hierarchy(
                {2: 2, 3: 2}, {2: 1.0, 3: target.alpha}, {2: (1,), 3: (2, 0)}, level_one_mean=0.0
            )
        case KernelHardInstance():
            levels = range(LOWEST_LEVEL, LOWEST_LEVEL + len(target.alphas))
            return Hierarchy(
                widths=dict.fromkeys(levels, 1),
                alphas=dict(zip(levels, target.alphas, strict=True)),
                connections=default_connections(len(target.alphas)),
                level_one_mean=1.0,
            )
        case PlainTarget() | DataSet():
            raise ValueError(f"the target {target.kind} is no hierarchy of quadratic levels")
        case _:
            assert_never(target)


def check_alphas(alphas: tuple[float, ...]) -> tuple[float, ...]:
    """Refuse output weights that no target may have; return them unchanged.

    Raises:
        ValueError: where α_2 is zero or an α is larger than the one below it.
    """
    if alphas[0] == 0:
        raise ValueError("the first alpha (level 2) must be positive")
    if any(above > below for below, above in itertools.pairwise(alphas)):
        raise ValueError("alphas must not grow with the level: the information gap needs α_2 ≥ α_3 ≥ …")
    return alphas


Alphas = Annotated[tuple[Alpha, ...], Field(min_length=1, max_length=5), AfterValidator(check_alphas)]
"""α_2, α_3, … of one target or guess."""


def least_dim(target: AnyTarget) -> int:
    """The smallest input dimension on which the target exists."""
    match target:
        case HierarchicalQuadratic():
            return target.widths[0]
        case WorkedExample1():
            return 3
        case WorkedExample2():
            return 4
        case KernelHardInstance():
            return target.sparsity
        case PlainTarget():
            return least_dim_of_plain(target)
        case DataSet():
            return target.sizes.dim


def known_features(target: AnyTarget) -> int:
    """Columns of the true features of every level and their squares: what an oracle gives away."""
    match target:
        case HierarchicalQuadratic():
            return 2 * sum(target.widths)
        case WorkedExample1() | WorkedExample2() | KernelHardInstance():
            return 2 * sum(hierarchy_of(target).widths.values())
        case MultiIndex():
            return 2 * target.directions
        case StackedQuadratic():
            return 2 * sum(target.widths)
        case Staircase():
            return 2 * len({len(one) for one in target.sets})
        case _:
            return 2


def check_connections(connections: dict[int, tuple[int, ...]], levels: int) -> None:
    """Refuse J that no target may have.

    Raises:
        ValueError: where a level is missing or reads what arXiv:2001.04413 §3 does not allow.
    """
    expected = set(range(LOWEST_LEVEL, LOWEST_LEVEL + levels))
    if set(connections) != expected:
        raise ValueError(
            f"connections must name the levels {sorted(expected)}, they name {sorted(connections)}"
        )
    for level, sources in connections.items():
        if len(set(sources)) != len(sources):
            raise ValueError(f"connections of level {level} name a source twice")
        if level == LOWEST_LEVEL:
            if tuple(sources) != (1,):
                raise ValueError("level 2 reads level 1 only: connections[2] must be [1]")
            continue
        allowed = {level - 1, *range(level - 2)}
        if level - 1 not in sources or not set(sources) <= allowed:
            raise ValueError(
                f"level {level} must read level {level - 1} and otherwise only levels ≤ {level - 3}"
            )
        if len(sources) == 1:
            raise ValueError(f"level {level} needs at least one skip from a level ≤ {level - 3}")
