"""Kernels of convolutional networks: their contract, and finite random networks as a second opinion."""

from itertools import product
from math import acos, cos, pi, prod, sin, sqrt

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from bfc_core.kernel_cost import BLOCK_ROWS, pair_seconds
from bfc_core.kernels.base import Kernel
from bfc_core.kernels.build import build_kernel
from bfc_core.kernels.convolutional import ConvolutionalKernel
from bfc_core.kernels.network import NetworkKernel
from bfc_core.specs import KernelSpec

BODIES: dict[str, dict[str, object]] = {
    "cntk average": {"kind": "convolutional", "depth": 3, "image": [5, 4, 2], "bias_variance": 0.1},
    "cntk flatten": {"kind": "convolutional", "depth": 3, "image": [5, 4, 2], "readout": "flatten"},
    "cnngp average": {"kind": "convolutional", "depth": 2, "image": [4, 4, 1], "network": "nngp"},
    "cnngp flatten": {
        "kind": "convolutional",
        "depth": 2,
        "image": [4, 3, 1],
        "network": "nngp",
        "readout": "flatten",
        "taps": 5,
    },
    "myrtle": {"kind": "myrtle", "image": [4, 8, 1]},
    "myrtle nngp": {"kind": "myrtle", "image": [4, 4, 2], "network": "nngp", "bias_variance": 0.2},
}
each = pytest.mark.parametrize("name", BODIES)


def kernel_of(name: str, **changes: object) -> ConvolutionalKernel:
    kernel = build_kernel(TypeAdapter(KernelSpec).validate_python(BODIES[name] | changes))
    assert isinstance(kernel, ConvolutionalKernel)
    return kernel


def images(kernel: ConvolutionalKernel, rows: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, prod(kernel.image), generator=generator, dtype=torch.float64)


@each
def test_the_gram_is_symmetric_positive_and_has_its_own_diagonal(name: str) -> None:
    kernel = kernel_of(name)
    x, z = images(kernel, 14), images(kernel, 5, seed=1)
    gram = kernel.gram(x)
    assert torch.equal(gram, gram.mT)
    values = torch.linalg.eigvalsh(gram)
    assert values[0] >= -1e-12 * values[-1]
    torch.testing.assert_close(kernel.block(x, x.clone()), gram, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(kernel.gram(x, z), kernel.gram(z, x).mT, rtol=1e-12, atol=1e-12)


def test_tiles_and_blocks_do_not_show() -> None:
    kernel = kernel_of("cntk flatten", depth=1, image=[2, 2, 1])
    x = images(kernel, BLOCK_ROWS + 5)
    whole = kernel.gram(x)
    few = kernel.gram(x[-6:], x[:9])
    torch.testing.assert_close(whole[-6:, :9], few, rtol=1e-12, atol=1e-12)
    one = kernel_of("cntk average")
    x = images(one, 12)  # 400 pairs of pixels: several tiles
    single = torch.cat([torch.cat([one.block(a[None], b[None]) for b in x], dim=1) for a in x])
    torch.testing.assert_close(one.block(x, x.clone()), single, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("readout", ["flatten", "average"])
@pytest.mark.parametrize("network", ["ntk", "nngp"])
def test_on_one_pixel_it_is_the_dense_kernel(readout: str, network: str) -> None:
    changes: dict[str, object] = {"image": [1, 1, 6], "readout": readout, "network": network, "depth": 3}
    conv = kernel_of("cntk flatten", taps=1, weight_variance=1.7, bias_variance=0.3, **changes)
    dense = NetworkKernel(network == "ntk", 3, "relu", 1.7, 0.3)
    x, z = images(conv, 9), images(conv, 5, seed=1)
    torch.testing.assert_close(conv.gram(x, z), dense.gram(x, z), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(conv.gram(x), dense.gram(x), rtol=1e-12, atol=1e-12)
    # Of nine taps eight read zeros: without a bias every convolution is a ninth of the dense layer.
    nine = kernel_of("cntk flatten", weight_variance=1.7, bias_variance=0.0, **changes)
    without_bias = NetworkKernel(network == "ntk", 3, "relu", 1.7, 0.0)
    torch.testing.assert_close(nine.gram(x, z), without_bias.gram(x, z) / 9**3, rtol=1e-12, atol=1e-12)


@each
def test_wide_random_networks_agree(name: str) -> None:
    """NNGP: the mean product of outputs over the readout's draw; NTK: the product of gradients."""
    kernel = kernel_of(name, weight_variance=1.5, bias_variance=0.2)
    x = images(kernel, 3)
    networks = [_kernel_of_a_random_network(kernel, x, seed) for seed in range(24)]
    torch.testing.assert_close(torch.stack(networks).mean(0), kernel.gram(x), rtol=0.08, atol=0.0)


def _kernel_of_a_random_network(kernel: ConvolutionalKernel, x: Tensor, seed: int, width: int = 96) -> Tensor:
    height, breadth, channels = kernel.image
    generator = torch.Generator().manual_seed(seed)
    parameters: list[Tensor] = []

    def normal(*shape: int) -> Tensor:
        drawn = torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()
        parameters.append(drawn)
        return drawn

    pixels = x.reshape(-1, height, breadth, channels).permute(0, 3, 1, 2)
    bias = sqrt(kernel.bias_variance)
    for operation in kernel.operations:
        if operation == "pool":
            pixels = avg_pool2d(pixels, 2)
            continue
        fan_in = pixels.shape[1] * kernel.taps**2
        filters = normal(width, pixels.shape[1], kernel.taps, kernel.taps)
        scaled = sqrt(kernel.weight_variance / fan_in) * filters
        pixels = conv2d(pixels, scaled, bias * normal(width), padding="same").relu()
    features = pixels.flatten(1) if kernel.readout == "flatten" else pixels.mean((2, 3))
    features = sqrt(kernel.weight_variance / features.shape[1]) * features
    covariance = features @ features.mT + kernel.bias_variance
    if not kernel.tangent:
        return covariance.detach()
    outputs = features @ torch.randn(features.shape[1], generator=generator, dtype=torch.float64)
    rows = [
        torch.cat([part.flatten() for part in torch.autograd.grad(out, parameters, retain_graph=True)])
        for out in outputs
    ]
    jacobian = torch.stack(rows)
    return (covariance + jacobian @ jacobian.mT).detach()


def test_a_shifted_image_is_near_under_average_pooling_only() -> None:
    """Global average pooling is blind to shifts as far as the borders allow; flattening is not."""

    def cosine(kernel: Kernel, x: Tensor, z: Tensor) -> float:
        return float(kernel.gram(x, z)) / sqrt(float(kernel.diagonal(x)) * float(kernel.diagonal(z)))

    spot = torch.zeros(1, 8, 8, dtype=torch.float64)
    spot[:, 3, 3] = 1.0
    moved = spot.roll(1, dims=2)
    average = kernel_of("cntk average", image=[8, 8, 1], depth=2, bias_variance=0.0)
    flatten = kernel_of("cntk flatten", image=[8, 8, 1], depth=2, bias_variance=0.0)
    assert cosine(average, spot.flatten(1), moved.flatten(1)) == pytest.approx(1.0, abs=1e-12)
    assert cosine(flatten, spot.flatten(1), moved.flatten(1)) < 0.8


def test_pools_need_sides_that_can_be_halved_twice() -> None:
    with pytest.raises(ValidationError, match="multiples of 4"):
        TypeAdapter(KernelSpec).validate_python({"kind": "myrtle", "image": [6, 8, 1]})


def test_the_plan_knows_what_average_pooling_costs() -> None:
    def seconds(body: dict[str, object]) -> float:
        return pair_seconds(TypeAdapter(KernelSpec).validate_python(body | {"image": [8, 8, 1]}))

    average, flatten = ({"kind": "convolutional", "readout": readout} for readout in ("average", "flatten"))
    assert seconds(average) > 50 * seconds(flatten) > 50 * seconds({"kind": "myrtle"}) / 64
    assert seconds({"kind": "myrtle"}) < seconds(average)


Covariance = dict[tuple[int, int, int, int], float]


def recursion_by_hand(kernel: ConvolutionalKernel, x: Tensor, z: Tensor) -> float:  # noqa: C901 - the definition
    """The definition, one pair of pixels and one tap at a time."""
    height, width, channels = kernel.image
    images = {"x": x.reshape(kernel.image).tolist(), "z": z.reshape(kernel.image).tolist()}

    def start(first: str, second: str) -> Covariance:
        return {
            (i, j, k, m): sum(a * b for a, b in zip(images[first][i][j], images[second][k][m], strict=True))
            / channels
            for i, j, k, m in product(range(height), range(width), range(height), range(width))
        }

    def averaged(of: Covariance) -> Covariance:
        reach = range(-(kernel.taps // 2), kernel.taps // 2 + 1)
        return {
            (i, j, k, m): sum(of.get((i + u, j + v, k + u, m + v), 0.0) for u in reach for v in reach)
            / kernel.taps**2
            for i, j, k, m in of
        }

    def pooled(of: Covariance) -> Covariance:
        halves = {tuple(index // 2 for index in pixels) for pixels in of}
        return {
            pixels: sum(
                of[tuple(2 * index + step for index, step in zip(pixels, steps, strict=True))]
                for steps in product((0, 1), repeat=4)
            )
            / 16
            for pixels in halves
        }

    pairs = {"xx": start("x", "x"), "xz": start("x", "z"), "zz": start("z", "z")}
    tangent: Covariance | None = None
    for operation in kernel.operations:
        if operation == "pool":
            pairs = {name: pooled(of) for name, of in pairs.items()}
            tangent = None if tangent is None else pooled(tangent)
            continue
        pairs = {
            name: {
                at: kernel.weight_variance * value + kernel.bias_variance
                for at, value in averaged(of).items()
            }
            for name, of in pairs.items()
        }
        followed = pairs["xz"] if tangent is None else averaged(tangent)
        factor = 0.0 if tangent is None else 1.0
        tangent, after = {}, {}
        for name, of in pairs.items():
            after[name] = {}
            for (i, j, k, m), value in of.items():
                scale = sqrt(pairs[name[0] * 2][i, j, i, j] * pairs[name[1] * 2][k, m, k, m])
                angle = pi / 2 if scale == 0 else acos(min(max(value / scale, -1.0), 1.0))
                after[name][i, j, k, m] = scale * (sin(angle) + (pi - angle) * cos(angle)) / (2 * pi)
                if name == "xz":
                    kept = factor * kernel.weight_variance * followed[i, j, k, m]
                    tangent[i, j, k, m] = (pi - angle) / (2 * pi) * (value + kept)
        pairs = after
    assert tangent is not None

    def read_out(of: Covariance) -> float:
        if kernel.readout == "average":
            return sum(of.values()) / len(of)
        return sum(value for at, value in of.items() if at[:2] == at[2:]) / sum(at[:2] == at[2:] for at in of)

    value = kernel.weight_variance * read_out(pairs["xz"]) + kernel.bias_variance
    return value + kernel.weight_variance * read_out(tangent) if kernel.tangent else value


@each
def test_the_recursion_is_its_definition_pixel_by_pixel(name: str) -> None:
    kernel = kernel_of(name, weight_variance=1.7, bias_variance=0.2)
    x, z = images(kernel, 2), images(kernel, 1, seed=1)
    found = kernel.gram(x, z)
    for row in range(2):
        assert float(found[row, 0]) == pytest.approx(recursion_by_hand(kernel, x[row], z[0]), rel=1e-12)


@each
@pytest.mark.parametrize("bias", [0.0, 0.1])
@pytest.mark.parametrize("size", [1e-150, 1.0, 1e150])
def test_equal_images_are_as_exact_off_the_diagonal(name: str, bias: float, size: float) -> None:
    """Also where patches of different pixels are parallel: a bright spot, a constant image, none at all."""
    kernel = kernel_of(name, bias_variance=bias)
    x = images(kernel, 2)
    spot = torch.zeros_like(x[:1])
    spot[:, : kernel.image[2]] = 1.0
    x = size * torch.cat([x, spot, torch.ones_like(spot), torch.zeros_like(spot), 2 * x[:1]])
    twice, count = torch.cat([x, x]), len(x)
    diagonal = kernel.diagonal(x)
    # Relative to the diagonal, whose own pairs of pixels may be parallel too.
    for gram in (kernel.gram(twice), kernel.gram(twice, twice.clone())):
        assert gram.isfinite().all()
        torch.testing.assert_close(gram[:count, count:].diagonal(), diagonal, rtol=1e-12, atol=0)
    if bias == 0:
        assert float(kernel.gram(x)[0, 5]) == pytest.approx(2 * float(diagonal[0]), rel=1e-12)


def test_parallel_patches_have_the_angle_zero_to_the_last_digits() -> None:
    """Images of one pixel each: every patch is parallel to every other, and the kernel a product of their values."""
    kernel = kernel_of(
        "cntk average", image=[3, 3, 1], depth=1, bias_variance=0.0, taps=1, weight_variance=2.0
    )
    x = torch.rand(5, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    # K = 2 a b, Θ = 2 a b / 2 after a ReLU at angle 0; the readout doubles: 2 (a b + a b).
    means = x.mean(1)
    torch.testing.assert_close(kernel.gram(x, x.clone()), 4 * torch.outer(means, means), rtol=1e-13, atol=0)
