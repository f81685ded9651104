"""Kernels by name and parameters; the formulas live in ``bfc_core.kernels``."""

from typing import Annotated, Literal

from pydantic import Field

from bfc_core.specs.base import PositiveFloat, Spec

Depth = Annotated[int, Field(ge=1, le=20, description="hidden layers")]
BiasVariance = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
NetworkActivation = Literal["relu", "centred_quadratic"]


class PolynomialKernel(Spec):
    """(offset + x·z / dim)^degree."""

    kind: Literal["polynomial"]
    degree: Annotated[int, Field(ge=1, le=16)] = 4
    offset: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 1.0


class RbfKernel(Spec):
    """exp(−‖x − z‖² / (2 · bandwidth² · dim)); a bandwidth list is chosen from by leave-one-out."""

    kind: Literal["rbf"]
    bandwidths: Annotated[tuple[PositiveFloat, ...], Field(min_length=1, max_length=20)] = (
        0.5,
        1.0,
        2.0,
        4.0,
        8.0,
    )


class NngpKernel(Spec):
    """Covariance of an infinitely wide network at initialisation."""

    kind: Literal["nngp"]
    depth: Depth = 3
    activation: NetworkActivation = "relu"
    bias_variance: BiasVariance = 0.1


class NtkKernel(Spec):
    """Neural tangent kernel of an infinitely wide network, NTK parametrisation."""

    kind: Literal["ntk"]
    depth: Depth = 3
    activation: NetworkActivation = "relu"
    bias_variance: BiasVariance = 0.1


KernelSpec = Annotated[
    PolynomialKernel | RbfKernel | NngpKernel | NtkKernel, Field(discriminator="kind", title="KernelSpec")
]
