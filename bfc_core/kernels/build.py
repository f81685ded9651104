"""From a kernel's spec to the kernel: the one match."""

from typing import assert_never

from bfc_core.kernels.base import Kernel
from bfc_core.kernels.network import NetworkKernel
from bfc_core.kernels.polynomial import PolynomialKernel
from bfc_core.kernels.rbf import RbfKernel
from bfc_core.specs import kernels as specs

WEIGHT_VARIANCE = {"relu": 2.0, "centred_quadratic": 1.0}
"""s_w² that keeps the variance of a unit-variance signal from layer to layer (He's for ReLU)."""


def candidate_kernels(spec: specs.KernelSpec) -> list[Kernel]:
    """The kernels that the spec leaves to choose from: one, or one a bandwidth."""
    match spec:
        case specs.PolynomialKernel():
            return [PolynomialKernel(spec.degree, spec.offset)]
        case specs.RbfKernel():
            return [RbfKernel(bandwidth) for bandwidth in spec.bandwidths]
        case specs.NngpKernel() | specs.NtkKernel():
            tangent = spec.kind == "ntk"
            weight_variance = WEIGHT_VARIANCE[spec.activation]
            return [NetworkKernel(tangent, spec.depth, spec.activation, weight_variance, spec.bias_variance)]
        case _:
            assert_never(spec)
