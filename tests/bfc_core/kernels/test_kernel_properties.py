"""What every kernel promises, whatever its formula."""

from itertools import pairwise
from math import pi, sqrt

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from bfc_core.kernel_cost import BLOCK_ROWS
from bfc_core.kernels.arc_cosine import ArcCosineKernel
from bfc_core.kernels.base import Kernel
from bfc_core.kernels.build import WEIGHT_VARIANCE, build_kernel, candidate_kernels
from bfc_core.kernels.compound import ProductKernel, SumKernel
from bfc_core.kernels.feature_map import mapped
from bfc_core.kernels.gram import gram_times
from bfc_core.kernels.laplace import LaplaceKernel
from bfc_core.kernels.network import NetworkKernel
from bfc_core.kernels.polynomial import PolynomialKernel
from bfc_core.kernels.rbf import RbfKernel
from bfc_core.specs import KernelSpec

DIM = 6


def normal(rows: int, columns: int = DIM, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def metric() -> torch.Tensor:
    root = normal(DIM, seed=9)
    return root @ root.mT


KERNELS: dict[str, Kernel] = {
    "polynomial": PolynomialKernel(4, 1.0),
    "homogeneous": PolynomialKernel(2, 0.0),
    "rbf": RbfKernel(0.7),
    "laplace": LaplaceKernel(2.0),
    "mahalanobis": LaplaceKernel(2.0, metric()),
    "nngp": NetworkKernel(False, 2, "relu", 2.0, 0.1),
    "ntk": NetworkKernel(True, 3, "relu", 2.0, 0.1),
    "quadratic nngp": NetworkKernel(False, 2, "centred_quadratic", 1.0, 0.1),
    "erf nngp": NetworkKernel(False, 2, "erf", 1.5, 0.1),
    "erf ntk": NetworkKernel(True, 3, "erf", 1.5, 0.1),
    "raw quadratic nngp": NetworkKernel(False, 2, "quadratic", 1 / 3, 0.0),
    "raw quadratic ntk": NetworkKernel(True, 2, "quadratic", 1 / 3, 0.1),
    "summed inner product": PolynomialKernel(2, 0.5, "sum"),
    "arc-cosine 0": ArcCosineKernel(0),
    "arc-cosine 1": ArcCosineKernel(1),
    "sum": SumKernel((RbfKernel(0.7), NetworkKernel(True, 1, "relu", 2.0, 0.1)), (0.5, 2.0)),
    "product": ProductKernel((LaplaceKernel(2.0), PolynomialKernel(2, 1.0), ArcCosineKernel(0))),
    "quadratic ntk": NetworkKernel(True, 2, "centred_quadratic", 1.0, 0.1),
}
each_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())


@each_kernel
def test_gram_is_symmetric_and_positive_semi_definite(kernel: Kernel) -> None:
    gram = kernel.gram(normal(40))
    assert torch.equal(gram, gram.mT)
    values = torch.linalg.eigvalsh(gram)
    assert values[0] >= -1e-12 * values[-1]


@each_kernel
def test_diagonal_agrees_with_the_block(kernel: Kernel) -> None:
    x = normal(10)
    torch.testing.assert_close(kernel.diagonal(x), kernel.block(x, x).diagonal(), rtol=1e-7, atol=1e-7)


@each_kernel
def test_blocked_grams_agree_with_one_block(kernel: Kernel) -> None:
    x, z = normal(BLOCK_ROWS + 9), normal(BLOCK_ROWS + 3, seed=1)
    torch.testing.assert_close(kernel.gram(x), kernel.block(x, x), rtol=1e-7, atol=1e-7)
    whole = kernel.block(x, z)
    torch.testing.assert_close(kernel.gram(x, z), whole, rtol=1e-12, atol=1e-12)
    weights = normal(BLOCK_ROWS + 3, 2, seed=2)
    torch.testing.assert_close(
        gram_times(kernel.block, x, z, weights), whole @ weights, rtol=1e-10, atol=1e-8
    )


@each_kernel
def test_gram_leaves_its_inputs_alone(kernel: Kernel) -> None:
    x, z = normal(5), normal(4, seed=1)
    before = x.clone(), z.clone()
    kernel.gram(x, z)
    kernel.gram(x)
    kernel.diagonal(x)
    assert torch.equal(x, before[0])
    assert torch.equal(z, before[1])


@pytest.mark.parametrize(("degree", "offset"), [(1, 1.0), (2, 0.0), (2, 0.5), (4, 1.0)])
def test_polynomial_features_reproduce_the_kernel(degree: int, offset: float) -> None:
    kernel = PolynomialKernel(degree, offset)
    x, z = normal(5), normal(7, seed=1)
    features = kernel.features(x)
    assert features.shape == (5, kernel.rank(DIM))
    torch.testing.assert_close(features @ kernel.features(z).mT, kernel.gram(x, z), rtol=1e-12, atol=1e-14)


def test_centred_quadratic_kernels_are_one_power_of_the_cosine_on_the_sphere() -> None:
    x, depth = normal(6), 3
    x = x * sqrt(DIM) / x.norm(dim=1, keepdim=True)
    power = (x @ x.mT / DIM) ** (2**depth)
    nngp = NetworkKernel(False, depth, "centred_quadratic", 1.0, 0.0).gram(x)
    ntk = NetworkKernel(True, depth, "centred_quadratic", 1.0, 0.0).gram(x)
    torch.testing.assert_close(nngp, power, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(ntk, (2 ** (depth + 1) - 1) * power, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "erf", "quadratic", "centred_quadratic"])
def test_network_kernels_agree_with_random_wide_networks(activation: str) -> None:
    """NNGP as the mean of products of outputs, NTK as the mean of products of gradients, one hidden layer."""
    weight_variance, bias_variance, width = 1.3, 0.2, 200_000
    x = normal(3, 4)
    draws = normal(width, 6, seed=3)
    incoming, bias, outgoing = draws[:, :4], draws[:, 4], draws[:, 5]
    z = sqrt(weight_variance / 4) * x @ incoming.mT + sqrt(bias_variance) * bias
    if activation == "relu":
        values, slopes = z.clamp_min(0), (z > 0).double()
    elif activation == "erf":
        values, slopes = torch.erf(z), 2 / sqrt(pi) * (-z.square()).exp()
    elif activation == "quadratic":
        values, slopes = z.square(), 2 * z
    else:
        values, slopes = (z.square() - 1) / sqrt(2), sqrt(2) * z
    nngp = weight_variance * values @ values.mT / width + bias_variance
    through = weight_variance * (slopes * outgoing) @ (slopes * outgoing).mT / width
    ntk = nngp + through * (weight_variance * x @ x.mT / 4 + bias_variance)
    exact = [
        NetworkKernel(tangent, 1, activation, weight_variance, bias_variance).gram(x)
        for tangent in (False, True)
    ]
    torch.testing.assert_close(nngp, exact[0], rtol=0.04, atol=0.02)
    torch.testing.assert_close(ntk, exact[1], rtol=0.04, atol=0.03)


@pytest.mark.parametrize("with_metric", [False, True])
def test_laplace_gradients_agree_with_autograd(*, with_metric: bool) -> None:
    kernel = LaplaceKernel(1.7, metric() if with_metric else None)
    anchors, weights = normal(9, seed=4), normal(9, 1, seed=5)
    x = normal(5, seed=6).requires_grad_()
    root = torch.linalg.cholesky(metric()) if with_metric else torch.eye(DIM, dtype=torch.float64)
    distances = ((x[:, None] - anchors[None]) @ root).norm(dim=2)
    (expected,) = torch.autograd.grad(((-distances / 1.7).exp() @ weights).sum(), x)
    torch.testing.assert_close(
        kernel.gradients(x.detach(), anchors, weights[:, 0]), expected, rtol=1e-9, atol=1e-12
    )


def test_laplace_gradient_at_an_anchor_ignores_that_anchor() -> None:
    kernel, anchors, weights = LaplaceKernel(1.0), normal(4), normal(4, 1, seed=1)[:, 0]
    without = kernel.gradients(anchors[:1], anchors[1:], weights[1:])
    torch.testing.assert_close(
        kernel.gradients(anchors, anchors, weights)[:1], without, rtol=1e-9, atol=1e-12
    )


def test_quadratic_map_appends_centred_squares() -> None:
    x = normal(3)
    assert mapped(x, "identity") is x
    assert torch.equal(mapped(x, "quadratic"), torch.cat([x, x**2 - 1], dim=1))


@pytest.mark.parametrize(
    ("body", "kernels"),
    [
        ({"kind": "polynomial"}, 1),
        ({"kind": "rbf", "bandwidths": [0.5, 2]}, 2),
        ({"kind": "nngp", "activation": "centred_quadratic"}, 1),
        ({"kind": "ntk", "depth": 2}, 1),
        ({"kind": "laplace"}, 5),
        ({"kind": "arc_cosine", "order": 0}, 1),
        ({"kind": "nngp", "activation": "erf", "weight_variance": 0.7}, 1),
        ({"kind": "sum", "terms": [{"kind": "laplace", "bandwidths": [1, 3]}, {"kind": "rbf"}]}, 10),
        ({"kind": "product", "factors": [{"kind": "rbf", "bandwidths": [1, 2]}, {"kind": "polynomial"}]}, 2),
    ],
)
def test_specs_become_finite_kernels(body: dict, kernels: int) -> None:
    built = candidate_kernels(TypeAdapter(KernelSpec).validate_python(body))
    assert len(built) == kernels
    assert all(kernel.gram(normal(4)).isfinite().all() for kernel in built)


def test_relu_weight_variance_keeps_unit_variance_through_depth() -> None:
    (kernel,) = candidate_kernels(
        TypeAdapter(KernelSpec).validate_python({"kind": "nngp", "depth": 8, "bias_variance": 0})
    )
    x = torch.ones(1, DIM, dtype=torch.float64)
    # s_w² = 2 doubles the input's variance once; every hidden layer then halves and doubles it.
    torch.testing.assert_close(kernel.diagonal(x), torch.tensor([2.0], dtype=torch.float64))


@pytest.mark.parametrize("activation", WEIGHT_VARIANCE)
def test_default_weight_variance_keeps_a_unit_variance(activation: str) -> None:
    body = {"kind": "nngp", "depth": 1, "activation": activation, "bias_variance": 0}
    x = torch.ones(1, DIM, dtype=torch.float64) / sqrt(WEIGHT_VARIANCE[activation])
    kernel = build_kernel(TypeAdapter(KernelSpec).validate_python(body))
    torch.testing.assert_close(kernel.diagonal(x), torch.ones(1, dtype=torch.float64))


def test_relu_nngp_of_one_layer_is_half_the_arc_cosine_kernel_of_order_one() -> None:
    x, z = normal(4), normal(3, seed=1)
    nngp = NetworkKernel(False, 1, "relu", 1.0, 0.0)
    torch.testing.assert_close(ArcCosineKernel(1).gram(x, z), 2 * DIM * nngp.gram(x, z), rtol=1e-12, atol=0)


def test_arc_cosine_of_order_zero_is_the_share_of_halfspaces_that_hold_both_points() -> None:
    x, directions = normal(4), normal(200_000, seed=3)
    steps = (x @ directions.mT > 0).double()
    torch.testing.assert_close(ArcCosineKernel(0).gram(x), 2 * steps @ steps.mT / 200_000, rtol=0, atol=0.01)


def test_the_zero_vector_is_at_a_right_angle_to_everything() -> None:
    zero, x = torch.zeros(1, DIM, dtype=torch.float64), normal(2)
    torch.testing.assert_close(ArcCosineKernel(0).gram(zero, x), torch.full((1, 2), 0.5, dtype=torch.float64))
    assert (NetworkKernel(True, 2, "relu", 2.0, 0.0).gram(torch.cat([zero, x])).isfinite()).all()


@pytest.mark.parametrize("activation", ["erf", "quadratic", "centred_quadratic"])
def test_smooth_activations_agree_with_quadrature_to_ten_digits(activation: str) -> None:
    """E φ(u)φ(v) and E φ′(u)φ′(v) of one layer from 100 × 100 Gauss–Hermite nodes."""
    apply, slope_of = {
        "erf": (torch.erf, lambda z: 2 / sqrt(pi) * (-z.square()).exp()),
        "quadratic": (torch.square, lambda z: 2 * z),
        "centred_quadratic": (lambda z: (z.square() - 1) / sqrt(2), lambda z: sqrt(2) * z),
    }[activation]
    nodes, masses = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(100))
    masses = torch.outer(masses, masses) / (2 * pi)
    x, weight_variance, bias_variance = 0.7 * normal(2), 0.8, 0.1
    start = weight_variance * x @ x.mT / DIM + bias_variance
    root = torch.linalg.cholesky(start)
    u, v = root[0, 0] * nodes[:, None], root[1, 0] * nodes[:, None] + root[1, 1] * nodes[None, :]
    nngp = weight_variance * float((masses * apply(u) * apply(v)).sum()) + bias_variance
    ntk = nngp + weight_variance * float((masses * slope_of(u) * slope_of(v)).sum()) * float(start[0, 1])
    for tangent, expected in ((False, nngp), (True, ntk)):
        kernel = NetworkKernel(tangent, 1, activation, weight_variance, bias_variance)
        assert float(kernel.gram(x)[0, 1]) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("activation", ["relu", "erf", "quadratic", "centred_quadratic"])
@pytest.mark.parametrize("depth", [1, 2])
def test_tangent_kernels_agree_with_finite_networks_of_autograd(activation: str, depth: int) -> None:
    """The recursion against the gradient's inner products of one wide network, depth by depth."""
    width, weight_variance, bias_variance = 3000, 0.9, 0.2
    generator = torch.Generator().manual_seed(5)
    sizes = [3, *[width] * depth, 1]
    parameters = [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for inputs, outputs in pairwise(sizes)
        for shape in ((inputs, outputs), (outputs,))
    ]
    apply = {
        "relu": torch.relu,
        "erf": torch.erf,
        "quadratic": torch.square,
        "centred_quadratic": lambda z: (z.square() - 1) / sqrt(2),
    }[activation]

    def network(h: torch.Tensor) -> torch.Tensor:
        for layer in range(depth + 1):
            weights, biases = parameters[2 * layer : 2 * layer + 2]
            h = sqrt(weight_variance / h.shape[0]) * h @ weights + sqrt(bias_variance) * biases
            h = apply(h) if layer < depth else h
        return h[0]

    x = normal(2, 3)
    gradients = [
        torch.cat([part.flatten() for part in torch.autograd.grad(network(row), parameters)]) for row in x
    ]
    found = torch.stack([torch.stack([a @ b for b in gradients]) for a in gradients])
    exact = NetworkKernel(True, depth, activation, weight_variance, bias_variance).gram(x)
    torch.testing.assert_close(found, exact, rtol=0, atol=0.15 * float(exact.abs().max()))


def test_compound_kernels_are_the_sum_and_product_of_their_parts() -> None:
    x, z = normal(4), normal(3, seed=1)
    a, b = RbfKernel(0.7), PolynomialKernel(2, 1.0)
    torch.testing.assert_close(
        SumKernel((a, b), (0.5, 2.0)).gram(x, z), 0.5 * a.gram(x, z) + 2 * b.gram(x, z)
    )
    torch.testing.assert_close(ProductKernel((a, b)).gram(x, z), a.gram(x, z) * b.gram(x, z))


def test_a_compound_spec_keeps_its_weights_and_refuses_what_does_not_fit() -> None:
    terms = [{"kind": "polynomial", "degree": 1}, {"kind": "polynomial", "degree": 2}]
    adapter = TypeAdapter(KernelSpec)
    kernel = build_kernel(adapter.validate_python({"kind": "sum", "terms": terms, "weights": [3, 1]}))
    assert isinstance(kernel, SumKernel)
    assert kernel.weights == (3, 1)
    with pytest.raises(ValidationError, match="weights has 1 values for 2 terms"):
        adapter.validate_python({"kind": "sum", "terms": terms, "weights": [3]})
    with pytest.raises(ValidationError, match="125 combinations, the limit is 100"):
        adapter.validate_python({"kind": "sum", "terms": [{"kind": "rbf"}] * 3})
