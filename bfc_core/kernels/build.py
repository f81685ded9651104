"""From a kernel's spec to the kernel: the one match."""

from math import asin, pi
from typing import assert_never

from bfc_core.kernels.arc_cosine import ArcCosineKernel
from bfc_core.kernels.base import Kernel
from bfc_core.kernels.compound import ProductKernel, SumKernel
from bfc_core.kernels.convolutional import ConvolutionalKernel
from bfc_core.kernels.laplace import LaplaceKernel
from bfc_core.kernels.network import NetworkKernel
from bfc_core.kernels.polynomial import PolynomialKernel
from bfc_core.kernels.rbf import RbfKernel
from bfc_core.specs import kernels as specs

WEIGHT_VARIANCE: dict[specs.NetworkActivation, float] = {
    "relu": 2.0,
    "centred_quadratic": 1.0,
    "erf": pi / (2 * asin(2 / 3)),
    "quadratic": 1 / 3,
}
"""s_w² that keeps the variance of a unit-variance signal from layer to layer (He's for ReLU).

For z² it is no stable point: the variance is squared by every layer, so inputs far from unit variance explode
or vanish with depth.
"""


def candidate_kernels(spec: specs.AnyKernel) -> list[Kernel]:
    """The kernels that the spec leaves to choose from: one, or one a combination of bandwidths."""
    return [build_kernel(variant) for variant in specs.variants(spec)]


def build_kernel(spec: specs.AnyKernel) -> Kernel:  # noqa: PLR0911 - one return a kind
    """The kernel of a spec that leaves no choice: of a list of bandwidths the first is taken."""
    match spec:
        case specs.PolynomialKernel():
            return PolynomialKernel(spec.degree, spec.offset, spec.inner_product)
        case specs.RbfKernel():
            return RbfKernel(spec.bandwidths[0])
        case specs.LaplaceKernel():
            return LaplaceKernel(spec.bandwidths[0])
        case specs.ArcCosineKernel():
            return ArcCosineKernel(spec.order)
        case specs.NngpKernel() | specs.NtkKernel():
            weight_variance = spec.weight_variance or WEIGHT_VARIANCE[spec.activation]
            return NetworkKernel(
                spec.kind == "ntk", spec.depth, spec.activation, weight_variance, spec.bias_variance
            )
        case specs.ConvolutionalNetworkKernel():
            return ConvolutionalKernel(
                spec.network == "ntk",
                spec.image,
                spec.operations,
                spec.readout if isinstance(spec, specs.ConvolutionalKernel) else "average",
                spec.taps if isinstance(spec, specs.ConvolutionalKernel) else 3,
                spec.weight_variance,
                spec.bias_variance,
            )
        case specs.ProductKernel():
            return ProductKernel(tuple(build_kernel(factor) for factor in spec.factors))
        case specs.SumKernel():
            weights = spec.weights or (1.0,) * len(spec.terms)
            return SumKernel(tuple(build_kernel(term) for term in spec.terms), weights)
        case _:
            assert_never(spec)
