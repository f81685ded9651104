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


ConvolutionalOperation = Literal["convolution", "pool"]
"""A convolution with its ReLU, or a 2 × 2 mean of pixels."""

ImageSide = Annotated[int, Field(ge=1, le=64)]


def _convolutions(count: int) -> tuple[ConvolutionalOperation, ...]:
    operation: ConvolutionalOperation = "convolution"
    return (operation,) * count


class ConvolutionalNetworkKernel(Spec):
    """Base of the kernels on images: rows of x are images, the channels of a pixel side by side."""

    network: Annotated[
        Literal["ntk", "nngp"], Field(description="the tangent kernel, or the covariance at initialisation")
    ] = "ntk"
    image: Annotated[
        tuple[ImageSide, ImageSide, Annotated[int, Field(ge=1, le=16)]],
        Field(description="height, width, channels; their product is the inputs' dim"),
    ]
    weight_variance: Annotated[PositiveFloat, Field(le=100, description="s_w², the same in every layer")] = (
        2.0
    )
    bias_variance: BiasVariance = 0.0

    @property
    def image_dim(self) -> int:
        """Length of a row."""
        return prod(self.image)

    @property
    def operations(self) -> tuple[ConvolutionalOperation, ...]:
        """The layers below the readout."""
        raise NotImplementedError


class ConvolutionalKernel(ConvolutionalNetworkKernel):
    """CNTK or CNN-GP of an infinitely wide ReLU network: convolutions ("same", zeros outside) and a dense readout.

    Arora et al., arXiv:1904.11955; Novak et al., arXiv:1810.05148. The readout reads all pixels ("flatten") or
    their mean ("average", global average pooling), which costs height × width times as much.
    """

    kind: Literal["convolutional"]
    depth: Annotated[int, Field(ge=1, le=20, description="convolutions")] = 4
    readout: Literal["flatten", "average"] = "average"
    taps: Annotated[Literal[1, 3, 5], Field(description="side of the filters")] = 3

    @property
    def operations(self) -> tuple[ConvolutionalOperation, ...]:
        """Convolutions only."""
        return _convolutions(self.depth)


class MyrtleKernel(ConvolutionalNetworkKernel):
    """Kernel of a Myrtle network: 3 × 3 convolutions in three groups, mean pools between, the mean of all pixels.

    Shankar et al., "Neural Kernels Without Tangents", arXiv:2003.02237. On 32 × 32 images their last pools take the
    mean of all pixels; here that holds for every size. Height and width must be multiples of 4.
    """

    kind: Literal["myrtle"]
    depth: Annotated[Literal[5, 7, 10], Field(description="layers with weights, the readout included")] = 5

    @model_validator(mode="after")
    def _can_be_halved_twice(self) -> Self:
        if any(side % 4 for side in self.image[:2]):
            raise ValueError(f"image is {self.image[0]} × {self.image[1]}: two pools need multiples of 4")
        return self

    @property
    def operations(self) -> tuple[ConvolutionalOperation, ...]:
        """Convolutions by group: 2, 1, 1 at depth 5; 2, 2, 2 at 7; 3, 3, 3 at 10."""
        first, second, third = {5: (2, 1, 1), 7: (2, 2, 2), 10: (3, 3, 3)}[self.depth]
        last = _convolutions(third)
        return (*_convolutions(first), "pool", *_convolutions(second), "pool", *last)


PlainKernel = (
    PolynomialKernel
    | RbfKernel
    | LaplaceKernel
    | ArcCosineKernel
    | NngpKernel
    | NtkKernel
    | ConvolutionalKernel
    | MyrtleKernel
)
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
        case (
            PolynomialKernel() | ArcCosineKernel() | NngpKernel() | NtkKernel() | ConvolutionalNetworkKernel()
        ):
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


def image_kernels(kernel: AnyKernel) -> Iterator[tuple[str, ConvolutionalNetworkKernel]]:
    """The kernels on images that a kernel is made of, each with its place in the kernel: "", or "terms.0."."""
    parts: list[tuple[str, PlainKernel | ProductKernel]]
    match kernel:
        case ProductKernel():
            parts = [(f"factors.{index}.", part) for index, part in enumerate(kernel.factors)]
        case SumKernel():
            parts = [(f"terms.{index}.", part) for index, part in enumerate(kernel.terms)]
        case ConvolutionalNetworkKernel():
            yield "", kernel
            return
        case _:
            return
    for place, part in parts:
        yield from ((place + inner, found) for inner, found in image_kernels(part))


def label_of_kernel(kernel: AnyKernel) -> str:  # noqa: PLR0911 - one a kind
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
        case ConvolutionalKernel():
            return f"cnn {kernel.network} depth {kernel.depth} {kernel.readout}"
        case MyrtleKernel():
            return f"myrtle {kernel.depth} {kernel.network}"
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
