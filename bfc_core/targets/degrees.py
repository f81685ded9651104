"""A target taken apart by Hermite degree: f = Σ_k f_k under N(0, I), every f_k exact at the points asked for.

Mehler: with y = ρx + √(1 − ρ²) z, z ~ N(0, I), the mean E_z f(y) is Σ_k ρ^k f_k(x), a polynomial in ρ; its values at
as many ρ as it has coefficients give the f_k. The mean itself is exact. Write *atoms* u for the linear forms that
levels take of x or of x² − mean; the target is a polynomial in them (level ℓ's atoms have weight 2^{ℓ−2}, the target
at most 2^{L−1}), and given x they are sums over independent coordinates y_j ~ N(m, s²), m = ρx_j, s² = 1 − ρ², with

    log E exp(a y_j² + b y_j) = −½ log(1 − 2as²) + (a m² + b m + ½ b² s²)/(1 − 2as²).

So the power series of their joint log moments is known, its exponential gives the joint moments up to that weight,
and those give the mean. What it costs grows with the number of monomials, whatever the dim.

Letters: u atoms, e monomials of atoms, n points, r values of ρ.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.specs import LOWEST_LEVEL, AnyInputs, GaussianInputs
from bfc_core.targets.base import Target
from bfc_core.targets.classification import ClassificationTarget
from bfc_core.targets.hierarchy import HierarchyTarget
from bfc_core.targets.misspecification import MisspecifiedTarget
from bfc_core.targets.plain import PlainFunction

MOST_PRODUCTS = 20_000
"""Pairs of monomials whose product is one: degree 16 of narrow levels is within it, degree 32 is not."""

MOST_DEGREE = 16
"""Beyond, powers of ρ on [−1, 1] no longer tell degrees apart to more than a few digits."""

COLUMNS = 4096
"""Points times values of ρ that are held at a time."""


def degree_parts(
    target: Target, inputs: AnyInputs, x: Float[Tensor, "n dim"]
) -> dict[int, Float[Tensor, " n"]]:
    """f_k at the rows of ``x`` for every degree k, float64; of G* where the target has a part outside its class.

    Empty where it is not defined or too costly: under other laws than N(0, I) (on the cube: parities), for null twins
    by random polynomials, for hierarchies of degree 32 or of many wide levels.
    """
    match target:
        case ClassificationTarget():
            return degree_parts(target.inside, inputs, x[:, 1:])
        case MisspecifiedTarget():
            return degree_parts(target.inside, inputs, x)
        case PlainFunction():
            law = "gaussian" if isinstance(inputs, GaussianInputs) else inputs.kind
            return target.parts(x) if law in target.degree_laws else {}
        case HierarchyTarget() if isinstance(inputs, GaussianInputs):
            return _parts_of_hierarchy(target, x.double())
        case _:
            return {}


@dataclass(frozen=True)
class _Atoms:
    """Linear forms of x (``is_square`` false) or of x² − mean (true), with their weights in the series."""

    rows: Float[Tensor, "u dim"]
    is_square: tuple[bool, ...]
    weights: tuple[int, ...]


class _Series:
    """Monomials of atoms up to a weight, and which two multiply to which."""

    def __init__(self, weights: tuple[int, ...], most: int) -> None:
        self.monomials = sorted(_monomials(weights, most), key=lambda pair: pair[1])
        self.place = {exponents: place for place, (exponents, _) in enumerate(self.monomials)}
        self.weight = torch.tensor([weight for _, weight in self.monomials], dtype=torch.float64)

    def products(self) -> int:
        """Number of pairs of monomials whose product is within the weight."""
        return sum(math.prod(power + 1 for power in exponents) for exponents, _ in self.monomials)

    def square(self, polynomial: dict[tuple[int, ...], float]) -> dict[tuple[int, ...], float]:
        """The square of a polynomial in the atoms."""
        product: dict[tuple[int, ...], float] = {}
        for left, a in polynomial.items():
            for right, b in polynomial.items():
                both = tuple(i + j for i, j in zip(left, right, strict=True))
                product[both] = product.get(both, 0.0) + a * b
        return product

    def factors(self, felt: frozenset[int]) -> list[tuple[list[int], list[int]]]:
        """For every monomial the pairs that multiply to it whose first is in ``felt``."""
        found = []
        for exponents, _ in self.monomials:
            lefts, rights = [], []
            for left in itertools.product(*(range(power + 1) for power in exponents)):
                if self.place[left] in felt:
                    lefts.append(self.place[left])
                    rights.append(self.place[tuple(i - j for i, j in zip(exponents, left, strict=True))])
            found.append((lefts, rights))
        return found

    def exponential(
        self, logarithm: Float[Tensor, "e c"], factors: list[tuple[list[int], list[int]]]
    ) -> Float[Tensor, "e c"]:
        """exp of a series without constant term: M = exp κ has w_e M_e = Σ w_a κ_a M_b over the factors a · b = e."""
        found = torch.zeros_like(logarithm)
        found[0] = 1.0
        weighted = self.weight[:, None] * logarithm
        for place, (lefts, rights) in enumerate(factors[1:], 1):
            if lefts:
                found[place] = (weighted[lefts] * found[rights]).sum(0) / self.weight[place]
        return found


def _parts_of_hierarchy(target: HierarchyTarget, x: Float[Tensor, "n dim"]) -> dict[int, Float[Tensor, " n"]]:
    hierarchy = target.hierarchy
    most = 2 ** (hierarchy.top - 1)
    degree = 2 * most
    atoms = _atoms_of(target)
    if degree > MOST_DEGREE or _count(atoms.weights, most) > MOST_PRODUCTS:
        return {}
    series = _Series(atoms.weights, most)
    if series.products() > MOST_PRODUCTS:
        return {}
    polynomial = _polynomial_of(target, series, atoms)
    # The logarithm is a square in b, so monomials of three linear atoms or more are not in it.
    felt = [
        place
        for place, (exponents, weight) in enumerate(series.monomials)
        if weight > 0 and _kinds(exponents, atoms)[1] <= 2  # noqa: PLR2004
    ]
    factors = series.factors(frozenset(felt))
    nodes = torch.cos(math.pi * (torch.arange(degree + 1, dtype=torch.float64) + 0.5) / (degree + 1))
    to_degrees = torch.linalg.inv(torch.linalg.vander(nodes))
    means = torch.cat(
        [
            _means(polynomial, series, felt, factors, atoms, rows, nodes, hierarchy.level_one_mean)
            for rows in torch.split(x, max(1, COLUMNS // len(nodes)))
        ]
    )
    parts = means @ to_degrees.mT
    return {k: parts[:, k].contiguous() for k in range(degree + 1)}


def _atoms_of(target: HierarchyTarget) -> _Atoms:
    rows, is_square, weights = [], [], []
    for (level, source), block in target.weights.items():
        if source < LOWEST_LEVEL:
            rows.append(block.double())
            is_square += [source == 1] * len(block)
            weights += [2 ** (level - LOWEST_LEVEL)] * len(block)
    return _Atoms(torch.cat(rows), tuple(is_square), tuple(weights))


def _polynomial_of(target: HierarchyTarget, series: _Series, atoms: _Atoms) -> dict[tuple[int, ...], float]:
    """The target as a polynomial in its atoms."""
    own = iter(range(len(atoms.weights)))
    one = {
        (level, source): [next(own) for _ in block]
        for (level, source), block in target.weights.items()
        if source < LOWEST_LEVEL
    }
    squares: dict[int, list[dict[tuple[int, ...], float]]] = {}
    total: dict[tuple[int, ...], float] = {}
    for level in target.hierarchy.levels:
        squares[level] = []
        for row in range(target.hierarchy.widths[level]):
            feature: dict[tuple[int, ...], float] = {}
            for source in target.hierarchy.connections[level]:
                if source < LOWEST_LEVEL:
                    atom = one[level, source][row]
                    terms = [(1.0, {tuple(int(i == atom) for i in range(len(atoms.weights))): 1.0})]
                else:
                    terms = list(
                        zip(target.weights[level, source][row].tolist(), squares[source], strict=True)
                    )
                for factor, term in terms:
                    for exponents, value in term.items():
                        feature[exponents] = feature.get(exponents, 0.0) + factor * value
            squares[level].append(series.square(feature))
            alpha = target.hierarchy.alphas[level]
            for exponents, value in squares[level][-1].items():
                total[exponents] = total.get(exponents, 0.0) + alpha * value
    return total


def _means(
    polynomial: dict[tuple[int, ...], float],
    series: _Series,
    felt: list[int],
    factors: list[tuple[list[int], list[int]]],
    atoms: _Atoms,
    x: Float[Tensor, "n dim"],
    nodes: Float[Tensor, " r"],
    level_one_mean: float,
) -> Float[Tensor, "n r"]:
    """E_z f(ρx + √(1 − ρ²) z) at every row and ρ."""
    logarithm = x.new_zeros(len(series.monomials), len(x) * len(nodes))
    spread = (1 - nodes.square())[None, :]
    for place in felt:
        exponents = series.monomials[place][0]
        quadratic, linear = _kinds(exponents, atoms)
        together = torch.ones_like(atoms.rows[0])
        for row, power in zip(atoms.rows, exponents, strict=True):
            if power:
                together = together * row**power
        ways = math.factorial(quadratic) * math.factorial(linear) / _factorials(exponents)
        term: Tensor
        if linear == 0:
            term = (x.square() @ together)[:, None] * nodes.square() * (2 * spread) ** (quadratic - 1)
            term = term + together.sum() * (2 * spread) ** quadratic / (2 * quadratic)
            term = term - (level_one_mean * together.sum() if quadratic == 1 else 0.0)
        elif linear == 1:
            term = (x @ together)[:, None] * nodes * (2 * spread) ** quadratic
        else:
            term = (together.sum() * spread * (2 * spread) ** quadratic / 2).expand(len(x), -1)
        logarithm[place] = ways * term.reshape(-1)
    moments = series.exponential(logarithm, factors)
    weights = x.new_zeros(len(series.monomials))
    for exponents, value in polynomial.items():
        weights[series.place[exponents]] = value * _factorials(exponents)
    return (weights @ moments).view(len(x), len(nodes))


def _monomials(weights: tuple[int, ...], most: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Exponents of every monomial with its weight."""
    if not weights:
        yield (), 0
        return
    for power in range(most // weights[0] + 1):
        for rest, weight in _monomials(weights[1:], most - power * weights[0]):
            yield (power, *rest), power * weights[0] + weight


def _count(weights: tuple[int, ...], most: int) -> int:
    """How many monomials there are, without making them."""
    ways = [1] + [0] * most
    for weight in weights:
        for total in range(weight, most + 1):
            ways[total] += ways[total - weight]
    return sum(ways)


def _kinds(exponents: tuple[int, ...], atoms: _Atoms) -> tuple[int, int]:
    """Degrees of a monomial in the atoms of x² − mean and in those of x."""
    quadratic = sum(power for power, square in zip(exponents, atoms.is_square, strict=True) if square)
    return quadratic, sum(exponents) - quadratic


def _factorials(exponents: tuple[int, ...]) -> int:
    return math.prod(math.factorial(power) for power in exponents)
