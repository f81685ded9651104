"""Targets whose levels are degrees; formulas and sources stand in ``bfc_core.specs.plain_targets``."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import factorial, pi, sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.seeding import generator_for
from bfc_core.specs.plain_targets import (
    AnyPlainTarget,
    Harmonic,
    HierarchicalPolynomial,
    MultiIndex,
    StackedQuadratic,
    Staircase,
    TabularRfm,
)

Part = Callable[[Tensor], Tensor]

GAUSSIAN_AND_CUBE = frozenset({"gaussian", "cube"})
"""A product of different coordinates is a Hermite polynomial and a parity."""


@dataclass(frozen=True)
class PlainFunction:
    """A sum of parts by level, and a feature for the levels that have one.

    Letters: n samples, k the width of a level's feature.
    """

    dim: int
    part_by_level: dict[int, Part]
    feature_by_level: dict[int, Part] = field(default_factory=dict)
    degree_laws: frozenset[str] = frozenset()
    """Input laws under which the part of level k is the function's part of degree k (Hermite, on the cube parity)."""
    form_by_level: dict[int, Float[Tensor, "dim dim"]] = field(default_factory=dict)
    """M of the levels whose part is c (xᵀMx − mean) for some c."""

    def __call__(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:
        """The sum of the parts."""
        return torch.stack(list(self.parts(x).values())).sum(0)

    def parts(self, x: Float[Tensor, "n dim"]) -> dict[int, Float[Tensor, " n"]]:
        """The part of every level."""
        return {level: part(x) for level, part in self.part_by_level.items()}

    def features(self, x: Float[Tensor, "n dim"]) -> dict[int, Float[Tensor, "n k"]]:
        """The inner values ⟨u, x⟩ or p(x) that a level is a function of."""
        return {level: feature(x) for level, feature in self.feature_by_level.items()}


def build_plain(spec: AnyPlainTarget, dim: int, seed: int) -> PlainFunction:  # noqa: PLR0911 - one a kind
    """The target of a spec; random directions come from the seed's ``target`` stream."""
    generator = generator_for(seed, "target")
    match spec:
        case Staircase():
            return _staircase(spec, dim)
        case MultiIndex(link="relu"):
            return _relu_index(spec, dim, generator)
        case MultiIndex():
            return _hermite_index(spec.degrees, spec.rank, dim, generator)
        case HierarchicalPolynomial():
            return _polynomial(spec, dim, generator)
        case StackedQuadratic():
            return _stacked_quadratic(spec, dim, generator)
        case Harmonic(form="parity"):
            return PlainFunction(
                dim, {spec.degree: lambda x: x[:, : spec.degree].prod(1)}, degree_laws=GAUSSIAN_AND_CUBE
            )
        case Harmonic():
            return _hermite_index((spec.degree,), 1, dim, generator)
        case TabularRfm():
            return PlainFunction(dim, {2: lambda x: x[:, 0] * x[:, 1] * (x[:, 5] > 0).to(x.dtype) / 4})


def normalised_hermite(degree: int, x: Tensor) -> Tensor:
    """He_k(x)/√k!, elementwise."""
    below, value = torch.ones_like(x), x
    for k in range(1, degree):
        below, value = value, x * value - k * below
    return value / sqrt(factorial(degree)) if degree > 0 else below


def orthonormal_directions(dim: int, count: int, generator: torch.Generator) -> Float[Tensor, "dim count"]:
    """Haar-distributed orthonormal columns."""
    q, r = torch.linalg.qr(torch.randn(dim, count, generator=generator, dtype=torch.float64))
    directions: Tensor = q * r.diagonal().sign()
    return directions


def _staircase(spec: Staircase, dim: int) -> PlainFunction:
    coefficients = spec.coefficients or (1.0,) * len(spec.sets)
    by_degree: dict[int, list[tuple[float, list[int]]]] = {}
    for one, coefficient in sorted(zip(spec.sets, coefficients, strict=True), key=lambda pair: len(pair[0])):
        by_degree.setdefault(len(one), []).append((coefficient, list(one)))

    def part(terms: list[tuple[float, list[int]]]) -> Part:
        return lambda x: torch.stack([c * x[:, one].prod(1) for c, one in terms]).sum(0)

    parts = {degree: part(terms) for degree, terms in by_degree.items()}
    return PlainFunction(dim, parts, degree_laws=GAUSSIAN_AND_CUBE)


def _hermite_index(
    degrees: tuple[int, ...], rank: int, dim: int, generator: torch.Generator
) -> PlainFunction:
    directions = orthonormal_directions(dim, rank * len(degrees), generator)
    scale = 1 / sqrt(rank * len(degrees))

    def feature(own: Tensor) -> Part:
        return lambda x: x @ own.to(x.dtype)

    def part(own: Tensor, degree: int) -> Part:
        return lambda x: scale * normalised_hermite(degree, x @ own.to(x.dtype)).sum(1)

    owned = {
        degree: directions[:, position * rank : (position + 1) * rank]
        for position, degree in enumerate(degrees)
    }
    ordered = sorted(degrees)
    return PlainFunction(
        dim,
        {k: part(owned[k], k) for k in ordered},
        {k: feature(owned[k]) for k in ordered},
        degree_laws=frozenset({"gaussian"}),
    )


def _relu_index(spec: MultiIndex, dim: int, generator: torch.Generator) -> PlainFunction:
    """Level 1 is everything: ReLU has no last degree. Var ReLU(u) = 1/2 − 1/(2π)."""
    directions = orthonormal_directions(dim, spec.rank, generator)
    scale = 1 / sqrt(spec.rank)

    def part(x: Tensor) -> Tensor:
        return scale * ((x @ directions.to(x.dtype)).clamp_min(0.0) - 1 / sqrt(2 * pi)).sum(1)

    return PlainFunction(dim, {1: part}, {1: lambda x: x @ directions.to(x.dtype)})


def _polynomial(spec: HierarchicalPolynomial, dim: int, generator: torch.Generator) -> PlainFunction:
    """Eigenvalues of alternating sign, all of size 1/√(2 dim); in an odd dim one of them is 0."""
    basis = orthonormal_directions(dim, dim, generator)
    paired = dim // 2 * 2
    eigenvalues = torch.zeros(dim, dtype=torch.float64)
    eigenvalues[:paired:2], eigenvalues[1:paired:2] = 1.0, -1.0
    eigenvalues /= sqrt(2 * paired)

    def inner(x: Tensor) -> Tensor:
        return ((x @ basis.to(x.dtype)).square() * eigenvalues.to(x.dtype)).sum(1)

    def part(degree: int, coefficient: float) -> Part:
        return lambda x: coefficient * normalised_hermite(degree, inner(x))

    parts = {degree: part(degree, coefficient) for degree, coefficient in enumerate(spec.coefficients, 1)}
    return PlainFunction(dim, parts, {1: lambda x: inner(x)[:, None]})


def _stacked_quadratic(spec: StackedQuadratic, dim: int, generator: torch.Generator) -> PlainFunction:
    k, r = spec.widths
    lower = orthonormal_directions(dim, k, generator)
    upper = orthonormal_directions(k, r, generator)

    def z(x: Tensor) -> Tensor:
        return ((x @ lower.to(x.dtype)).square() - 1) / sqrt(2)

    def above(x: Tensor) -> Tensor:
        return z(x) @ upper.to(x.dtype)

    return PlainFunction(
        dim,
        {
            1: lambda x: z(x).sum(1) / sqrt(k),
            2: lambda x: spec.alpha * (above(x).square() - 1).sum(1) / sqrt(15 * r),
        },
        {1: z, 2: above},
        form_by_level={1: lower @ lower.mT},
    )
