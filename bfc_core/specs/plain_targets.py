"""Targets that are no hierarchy of quadratic levels: what kernels, spectral methods and feature machines are tried on.

Their levels are degrees, so that a report says how much of each degree was learned. Networks with levels of their own
are told the shape of a hierarchy, which these targets do not have: such learners are refused on them.
"""

import itertools
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bfc_core.specs.base import NonNegativeFloat, Spec

Coefficient = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Coordinate = Annotated[int, Field(ge=0, le=4095)]

MOST_ORDERS = 7
"""Sets up to which the leap is found by trying every order."""


class PlainTarget(Spec):
    """Base of the targets of this file."""

    label_noise: Annotated[NonNegativeFloat, Field(le=100)] = Field(
        default=0.0, description="standard deviation of the label noise, in standard deviations of the target"
    )


class Staircase(PlainTarget):
    """Σ_S c_S Π_{i∈S} x_i over sets of coordinates, for cube or Gaussian inputs (its Hermite form).

    Its leap, the least over orders of the sets of the most new coordinates that a set adds, decides the time of
    online gradient descent, about dim^max(leap, 2) (arXiv:2108.10573, arXiv:2202.08658, arXiv:2302.11055). Levels are
    degrees.
    """

    kind: Literal["staircase"]
    sets: Annotated[
        tuple[Annotated[tuple[Coordinate, ...], Field(min_length=1, max_length=12)], ...],
        Field(min_length=1, max_length=32, description="coordinates of every product, counted from 0"),
    ] = ((0,), (0, 1), (0, 1, 2))
    coefficients: Annotated[
        tuple[Coefficient, ...] | None, Field(description="one a set; null takes 1 for all")
    ] = None

    @model_validator(mode="after")
    def _sets_are_sets(self) -> Self:
        if any(len(set(one)) != len(one) for one in self.sets):
            raise ValueError("a set must not name a coordinate twice")
        if len({frozenset(one) for one in self.sets}) != len(self.sets):
            raise ValueError("sets must not name the same set twice")
        if self.coefficients is not None:
            if len(self.coefficients) != len(self.sets):
                raise ValueError(
                    f"coefficients has {len(self.coefficients)} values for {len(self.sets)} sets"
                )
            if not any(self.coefficients):
                raise ValueError("one coefficient at least must not be zero")
        return self

    @property
    def leap(self) -> int | None:
        """The leap; None where there are too many sets to try every order."""
        if len(self.sets) > MOST_ORDERS:
            return None
        sets = [frozenset(one) for one in self.sets]
        return min(_most_new(order) for order in itertools.permutations(sets))


class MultiIndex(PlainTarget):
    """Σ_k Σ_j g_k(⟨u_kj, x⟩)/√r over ``degrees`` k, with r orthonormal directions a degree, rescaled to unit variance.

    g_k = He_k/√k!; with ``link`` "relu" one ridge function ReLU(⟨u, x⟩) − 1/√(2π) a direction instead, where
    ``degrees`` is not read. ``rank`` r varies the rank of the index space, which feature machines live on
    (arXiv:2205.01445, arXiv:2206.15144). All directions are orthonormal together. Levels are degrees.
    """

    kind: Literal["multi_index"]
    link: Literal["hermite", "relu"] = "hermite"
    degrees: Annotated[tuple[Annotated[int, Field(ge=1, le=8)], ...], Field(min_length=1, max_length=8)] = (
        1,
        2,
        4,
    )
    rank: Annotated[int, Field(ge=1, le=1024, description="directions of every degree")] = 1

    @model_validator(mode="after")
    def _degrees_differ(self) -> Self:
        if len(set(self.degrees)) != len(self.degrees):
            raise ValueError("degrees must not name a degree twice")
        return self

    @property
    def directions(self) -> int:
        """Orthonormal directions that are needed."""
        return self.rank * (len(self.degrees) if self.link == "hermite" else 1)


class HierarchicalPolynomial(PlainTarget):
    """Σ_q c_q h_q(p(x)) with p = xᵀAx, h_1 = p, h_2 = (p² − 1)/√2, …, A with eigenvalues ±1/√(2 dim) in equal parts.

    p has mean 0 and variance 1 under N(0, I), and tends to a Gaussian: a three-layer network needs about dim²
    samples where a kernel needs dim^{2q} (arXiv:2305.06986, arXiv:2311.13774). Level q is the part of degree q in p.
    """

    kind: Literal["hierarchical_polynomial"]
    coefficients: Annotated[
        tuple[Coefficient, ...],
        Field(min_length=1, max_length=4, description="c_1, c_2, … of the Hermite polynomials of p"),
    ] = (1.0, 0.7)

    @model_validator(mode="after")
    def _something_is_left(self) -> Self:
        if not any(self.coefficients):
            raise ValueError("one coefficient at least must not be zero")
        return self


class StackedQuadratic(PlainTarget):
    """Σ_i z_i/√k + α Σ_{j≤r} ((b_j·z)² − 1)/√(15 r), z_i = ((a_i·x)² − 1)/√2, orthonormal a_1 … a_k, b_1 … b_r.

    The smallest target on which backward correction can be told from further training: fitted alone, the form
    Σ a_i a_iᵀ of level 1 is bent by what level 2 looks like from there. Under N(0, I) every z_i has variance 1 and
    fourth moment 15, level 1 has variance 1. A figure of this project; level 1 is the first sum, level 2 the second.
    """

    kind: Literal["stacked_quadratic"]
    widths: Annotated[
        tuple[Annotated[int, Field(ge=1, le=64)], Annotated[int, Field(ge=1, le=64)]],
        Field(description="k and r ≤ k"),
    ] = (4, 2)
    alpha: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = 0.5

    @model_validator(mode="after")
    def _widths_shrink(self) -> Self:
        if self.widths[1] > self.widths[0]:
            raise ValueError("widths must not grow with the level (r ≤ k)")
        return self


class Harmonic(PlainTarget):
    """One pure degree: the parity of the first coordinates, or He_k/√k! of one random direction.

    Kernel ridge with d^ℓ < n < d^{ℓ+1} learns degree ℓ at most (arXiv:1904.12191).
    """

    kind: Literal["harmonic"]
    degree: Annotated[int, Field(ge=1, le=8)] = 2
    form: Literal["parity", "hermite"] = "hermite"


class TabularRfm(PlainTarget):
    """x₁ x₂ 1[x₆ > 0] at a quarter of the scale: the toy of arXiv:2212.13881 with x ~ N(0, I) for its N(0, I/4).

    Distances are twice the paper's: its Laplace bandwidth of 10 is 20 here. Var f = 1/32.
    """

    kind: Literal["tabular_rfm"]


AnyPlainTarget = Staircase | MultiIndex | HierarchicalPolynomial | StackedQuadratic | Harmonic | TabularRfm


def least_dim_of_plain(target: AnyPlainTarget) -> int:
    """The smallest input dimension on which the target exists."""
    match target:
        case Staircase():
            return 1 + max(itertools.chain.from_iterable(target.sets))
        case MultiIndex():
            return target.directions
        case StackedQuadratic():
            return target.widths[0]
        case Harmonic(form="parity"):
            return target.degree
        case TabularRfm():
            return 6
        case _:
            return 2 if isinstance(target, HierarchicalPolynomial) else 1


def is_constant_on_cube(target: AnyPlainTarget, dim: int) -> bool:
    """Whether x_j² = 1 leaves nothing of the target: even functions of one number that is ±1 on the cube.

    In two dimensions a quadratic form without trace is one number times x₁x₂. Of ``dim`` orthonormal directions the
    squares sum to ‖x‖² = dim.
    """
    match target:
        case Harmonic(form="hermite"):
            return dim == 1 and target.degree % 2 == 0
        case MultiIndex(link="hermite"):
            return dim == 1 and all(degree % 2 == 0 for degree in target.degrees)
        case HierarchicalPolynomial():
            return dim == 2 and not any(target.coefficients[::2])  # noqa: PLR2004 - two coordinates
        case StackedQuadratic():
            return target.widths[0] == dim and (dim <= 2 or target.alpha == 0)  # noqa: PLR2004
        case _:
            return False


def _most_new(order: tuple[frozenset[int], ...]) -> int:
    seen: set[int] = set()
    most = 0
    for one in order:
        most = max(most, len(one - seen))
        seen |= one
    return most
