"""Kernels by name and parameters; the formulas live in ``bfc_core.kernels``.

A sum may hold products and a product holds plain kernels: every polynomial in kernels is a sum of products, so
nothing is lost, and the schema has no recursion for a client to stumble over.
"""

import itertools
from collections.abc import Iterator
from math import prod
from typing import Annotated, Literal, Self, assert_never

from pydantic import Field, model_validator

from bfc_core.specs.base import PositiveFloat, Spec

Depth = Annotated[int, Field(ge=1, le=20, description="hidden layers")]
BiasVariance = Annotated[
    float, Field(ge=0, le=100, allow_inf_nan=False, description="s_b², the same in every layer")
]
WeightVariance = Annotated[
    PositiveFloat | None,
    Field(
        le=100,
        description="s_w², the same in every layer; null takes the value that keeps a unit variance: "
        "relu 2, erf π/(2 asin(2/3)), quadratic 1/3, centred_quadratic 1",
    ),
]
NetworkActivation = Literal["relu", "centred_quadratic", "erf", "quadratic"]
Bandwidths = Annotated[tuple[PositiveFloat, ...], Field(min_length=1, max_length=20)]

MAX_VARIANTS = 100
"""Combinations of bandwidths that one kernel may leave to choose from."""


class PolynomialKernel(Spec):
    """(offset + x·z / dim)^degree, or with ``inner_product`` "sum" (offset + x·z)^degree."""

    kind: Literal["polynomial"]
    degree: Annotated[int, Field(ge=1, le=16)] = 4
    offset: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 1.0
    inner_product: Annotated[
        Literal["mean", "sum"], Field(description="'mean' divides x·z by dim, 'sum' does not")
    ] = "mean"


class RbfKernel(Spec):
    """exp(−‖x − z‖² / (2 · bandwidth² · dim)); a bandwidth list is chosen from by leave-one-out."""

    kind: Literal["rbf"]
    bandwidths: Bandwidths = (0.5, 1.0, 2.0, 4.0, 8.0)


class LaplaceKernel(Spec):
    """exp(−‖x − z‖ / bandwidth), the bandwidth in the units of x; a list is chosen from by leave-one-out."""

    kind: Literal["laplace"]
    bandwidths: Bandwidths = (1.0, 3.0, 10.0, 30.0, 100.0)


class ArcCosineKernel(Spec):
    """1 − t/π (order 0) or ‖x‖‖z‖ (sin t + (π − t) cos t) / π (order 1), t the angle between x and z.

    Cho and Saul, "Kernel Methods for Deep Learning" (2009).
    """

    kind: Literal["arc_cosine"]
    order: Annotated[Literal[0, 1], Field(description="0: step activation, 1: ReLU")] = 1


class NngpKernel(Spec):
    """Covariance of an infinitely wide network at initialisation."""

    kind: Literal["nngp"]
    depth: Depth = 3
    activation: NetworkActivation = "relu"
    bias_variance: BiasVariance = 0.1
    weight_variance: WeightVariance = None


class NtkKernel(Spec):
    """Neural tangent kernel of an infinitely wide network, NTK parametrisation."""

    kind: Literal["ntk"]
    depth: Depth = 3
    activation: NetworkActivation = "relu"
    bias_variance: BiasVariance = 0.1
    weight_variance: WeightVariance = None


PlainKernel = PolynomialKernel | RbfKernel | LaplaceKernel | ArcCosineKernel | NngpKernel | NtkKernel
PlainKernelSpec = Annotated[PlainKernel, Field(discriminator="kind", title="PlainKernelSpec")]


class ProductKernel(Spec):
    """The product of its factors, which is positive semi-definite when they are (Schur)."""

    kind: Literal["product"]
    factors: Annotated[tuple[PlainKernelSpec, ...], Field(min_length=2, max_length=8)]

    @model_validator(mode="after")
    def _variants_are_few(self) -> Self:
        _check_variants(self)
        return self


TermSpec = Annotated[PlainKernel | ProductKernel, Field(discriminator="kind", title="TermSpec")]


class SumKernel(Spec):
    """The weighted sum of its terms: for instance one quadratic NTK a depth, which then has every degree 2^ℓ."""

    kind: Literal["sum"]
    terms: Annotated[tuple[TermSpec, ...], Field(min_length=2, max_length=8)]
    weights: Annotated[
        tuple[PositiveFloat, ...] | None, Field(description="one a term; null weighs all terms by 1")
    ] = None

    @model_validator(mode="after")
    def _weights_fit_the_terms(self) -> Self:
        if self.weights is not None and len(self.weights) != len(self.terms):
            raise ValueError(f"weights has {len(self.weights)} values for {len(self.terms)} terms")
        _check_variants(self)
        return self


AnyKernel = PlainKernel | ProductKernel | SumKernel
KernelSpec = Annotated[AnyKernel, Field(discriminator="kind", title="KernelSpec")]


def variants(kernel: AnyKernel) -> list[AnyKernel]:
    """The kernels that a spec leaves to choose from: one a combination of its bandwidths, in the lists' order."""
    match kernel:
        case RbfKernel() | LaplaceKernel():
            return [kernel.model_copy(update={"bandwidths": (bandwidth,)}) for bandwidth in kernel.bandwidths]
        case ProductKernel():
            choices = itertools.product(*map(variants, kernel.factors))
            return [kernel.model_copy(update={"factors": factors}) for factors in choices]
        case SumKernel():
            choices = itertools.product(*map(variants, kernel.terms))
            return [kernel.model_copy(update={"terms": terms}) for terms in choices]
        case PolynomialKernel() | ArcCosineKernel() | NngpKernel() | NtkKernel():
            return [kernel]
        case _:
            assert_never(kernel)


def bandwidths_of(kernel: AnyKernel, within: str = "") -> dict[str, tuple[float, ...]]:
    """Every list of bandwidths by its name: "bandwidth", or "terms.0.factors.1.bandwidth" inside a compound."""
    match kernel:
        case RbfKernel() | LaplaceKernel():
            return {f"{within}bandwidth": kernel.bandwidths}
        case ProductKernel():
            parts = [
                bandwidths_of(part, f"{within}factors.{index}.") for index, part in enumerate(kernel.factors)
            ]
        case SumKernel():
            parts = [
                bandwidths_of(part, f"{within}terms.{index}.") for index, part in enumerate(kernel.terms)
            ]
        case _:
            parts = []
    return {name: values for part in parts for name, values in part.items()}


def plain_kernels(kernel: AnyKernel) -> Iterator[PlainKernel]:
    """The plain kernels that a kernel is made of."""
    match kernel:
        case ProductKernel():
            yield from kernel.factors
        case SumKernel():
            for term in kernel.terms:
                yield from plain_kernels(term)
        case _:
            yield kernel


def label_of_kernel(kernel: AnyKernel) -> str:
    """A short readable name; what it leaves out is told apart where two learners would share a label."""
    match kernel:
        case PolynomialKernel():
            return f"polynomial degree {kernel.degree}"
        case RbfKernel() | LaplaceKernel():
            return kernel.kind
        case ArcCosineKernel():
            return f"arc cosine {kernel.order}"
        case NngpKernel() | NtkKernel():
            return f"{kernel.kind} depth {kernel.depth} {kernel.activation.replace('_', ' ')}"
        case ProductKernel():
            return "product of " + ", ".join(map(label_of_kernel, kernel.factors))
        case SumKernel():
            return "sum of " + ", ".join(map(label_of_kernel, kernel.terms))
        case _:
            assert_never(kernel)


def _check_variants(kernel: ProductKernel | SumKernel) -> None:
    count = prod(len(values) for values in bandwidths_of(kernel).values())
    if count > MAX_VARIANTS:
        raise ValueError(f"the lists of bandwidths make {count} combinations, the limit is {MAX_VARIANTS}")
