"""Kernels of infinitely wide convolutional ReLU networks on small images: CNN-GP, CNTK and the Myrtle family.

Novak et al., arXiv:1810.05148 and Arora et al., arXiv:1904.11955, in the NTK parametrisation of ``network.py``: weights
and biases are N(0, 1), a convolution with f × f taps over c channels enters with s_w/√(f² c) and s_b, and is padded
with zeros ("same"). The state of the recursion is the covariance K[p, p'] of pixel p of x and pixel p' of z. With A the
mean over the f² taps of K[p + δ, p' + δ],

    convolution:  K ← s_w² A(K) + s_b²,  Θ ← K_new + s_w² A(Θ),
    ReLU:         K ← E φ(u)φ(v),        Θ ← E φ′(u)φ′(v) · Θ,
    2 × 2 pool:   K and Θ ← their means over the 2 × 2 × 2 × 2 pairs of pixels.

The readout is a dense layer: on all pixels ("flatten") it needs the mean over p of K[p, p], so that without pools only
pairs of equal pixels are followed, H W numbers a pair of images; on their mean ("average") it needs the mean over all
pairs of pixels, (H W)² numbers. The Myrtle networks (Shankar et al., arXiv:2003.02237) have two pools of their own.

The pairs of images stand in the last dimensions, so that every operation runs over long stretches of memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import pi
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.flops.counting import charged
from bfc_core.flops.kernels import PairFlops, convolutional_flops
from bfc_core.kernel_cost import PIXEL_PAIRS_AT_ONCE
from bfc_core.kernels.base import Kernel
from bfc_core.kernels.pulse import beat
from bfc_core.specs.kernels import ConvolutionalOperation

ROUNDING = 16
"""Units of rounding by which √(ab) and the covariance of parallel patches may differ."""

Pixels = Float[Tensor, "h v w u ..."]
"""Pairs of pixels (h, w) of x and (v, u) of z, where v and u are 1 as long as only equal pixels are followed."""


@dataclass(frozen=True)
class ConvolutionalKernel(Kernel):
    """NNGP, or with ``tangent`` the NTK, of convolutions and pools with one dense readout.

    Rows are images of shape (height, width, channels) in this order, the channels of a pixel side by side.
    """

    tangent: bool
    image: tuple[int, int, int]
    operations: tuple[ConvolutionalOperation, ...]
    readout: Literal["flatten", "average"]
    taps: int
    weight_variance: float
    bias_variance: float

    def block(self, x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        """The recursion on tiles of pairs that stay in the cache."""
        with charged(self.flops(x.shape[1]).block(len(x), len(z))):
            return self._tiled(x, z)

    def _tiled(self, x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        variances_x = self._variances(x)
        variances_z = variances_x if z is x else self._variances(z)
        kernel = torch.empty(len(x), len(z), dtype=x.dtype, device=x.device)
        side = max(1, int((PIXEL_PAIRS_AT_ONCE // self._pairs_of_pixels) ** 0.5))
        for start in range(0, len(x), side):
            rows = slice(start, start + side)
            for column in range(0, len(z), side):
                columns = slice(column, column + side)
                scale = partial(_product_of_roots, variances_x, variances_z, rows, columns)
                kernel[rows, columns] = self._read_out(self._pixels_of_pairs(x[rows], z[columns]), scale)
                beat()
        return kernel

    def diagonal(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The recursion on x with itself; equal pixels have no rounding of an angle."""
        step = max(1, PIXEL_PAIRS_AT_ONCE // self._pairs_of_pixels)
        values = []
        with charged(self.flops(x.shape[1]).diagonal * len(x)):
            for start in range(0, len(x), step):
                pixels = self._pixels_with_themselves(x[start : start + step])
                values.append(self._read_out(pixels, lambda _, own: _scale_of_itself(own)))
                beat()
        return torch.cat(values)

    def flops(self, dim: int) -> PairFlops:  # noqa: ARG002 - the image says it
        """The recursion over pairs of pixels, which is no product: it is charged by its closed form."""
        return convolutional_flops(
            self.image,
            self.operations,
            self.taps,
            is_tangent=self.tangent,
            follows_all_pairs=self._follows_all_pairs,
        )

    @property
    def _follows_all_pairs(self) -> bool:
        return self.readout == "average" or "pool" in self.operations

    @property
    def _pairs_of_pixels(self) -> int:
        pixels = self.image[0] * self.image[1]
        return pixels**2 if self._follows_all_pairs else pixels

    def _images(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n h w c"]:
        return x.reshape(len(x), *self.image)

    def _pixels_of_pairs(self, x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]) -> Pixels:
        equation = "nhwc,mvuc->hvwunm" if self._follows_all_pairs else "nhwc,mhwc->hwnm"
        # einsum leaves the dimensions in an order of its own; here the pairs of images must be the innermost.
        pixels = torch.einsum(equation, self._images(x), self._images(z)).div_(self.image[2]).contiguous()
        return pixels if self._follows_all_pairs else pixels[:, None, :, None]

    def _pixels_with_themselves(self, x: Float[Tensor, "n d"]) -> Pixels:
        equation = "nhwc,nvuc->hvwun" if self._follows_all_pairs else "nhwc,nhwc->hwn"
        pixels = torch.einsum(equation, self._images(x), self._images(x)).div_(self.image[2]).contiguous()
        return pixels if self._follows_all_pairs else pixels[:, None, :, None]

    def _variances(self, x: Float[Tensor, "n d"]) -> list[Float[Tensor, "h w n"]]:
        """K[p, p] of every image with itself before every ReLU."""
        found: list[list[Tensor]] = []
        step = max(1, PIXEL_PAIRS_AT_ONCE // self._pairs_of_pixels)
        for start in range(0, len(x), step):
            layers: list[Tensor] = []

            def note(_: int, own: Pixels, layers: list[Tensor] = layers) -> Tensor:
                layers.append(_equal_pixels(own).clone())
                return _scale_of_itself(own)

            self._read_out(self._pixels_with_themselves(x[start : start + step]), note)
            found.append(layers)
            beat()
        return [torch.cat(parts, dim=-1) for parts in zip(*found, strict=True)]

    def _read_out(self, covariance: Pixels, scale: Callable[[int, Pixels], Tensor]) -> Tensor:
        """The recursion in place; ``scale(i, K)`` is √(K(x,x)[p,p] K(z,z)[p',p']) before the i-th ReLU."""
        tangent: Tensor | None = None
        activations = 0
        for operation in self.operations:
            if operation == "pool":
                covariance = _pooled(covariance)
                tangent = None if tangent is None else _pooled(tangent)
                continue
            covariance = self._convolved(covariance).add_(self.bias_variance)
            tangent = self._followed(tangent, covariance)
            slope = _advance(covariance, scale(activations, covariance))
            activations += 1
            tangent = None if tangent is None else tangent.mul_(slope)
        kernel = self._averaged(covariance).mul_(self.weight_variance).add_(self.bias_variance)
        if tangent is None:
            return kernel
        return kernel.add_(self._averaged(tangent), alpha=self.weight_variance)

    def _followed(self, tangent: Tensor | None, covariance: Pixels) -> Tensor | None:
        """Θ after the convolution that made ``covariance``: before the first one it is zero."""
        if not self.tangent:
            return None
        return covariance.clone() if tangent is None else self._convolved(tangent).add_(covariance)

    def _convolved(self, pixels: Pixels) -> Pixels:
        """s_w² A: along the rows, then along the columns. The input is overwritten."""
        for first in (0, 2):
            original = pixels
            pixels = original.clone()
            for shift in range(1, self.taps // 2 + 1):
                if shift >= original.shape[first]:
                    break
                ahead, behind = slice(shift, None), slice(None, -shift)
                _part(pixels, first, ahead).add_(_part(original, first, behind))
                _part(pixels, first, behind).add_(_part(original, first, ahead))
        return pixels.mul_(self.weight_variance / self.taps**2)

    def _averaged(self, pixels: Pixels) -> Tensor:
        if self.readout == "average":
            return pixels.mean((0, 1, 2, 3))
        return _equal_pixels(pixels).mean((0, 1))


def _part(pixels: Pixels, first: int, kept: slice) -> Pixels:
    """The same stretch of rows (0) or columns (2) of both images; one dimension of length 1 is left alone."""
    both = pixels.narrow(first, *_bounds(kept, pixels.shape[first]))
    if pixels.shape[first + 1] == 1:
        return both
    return both.narrow(first + 1, *_bounds(kept, pixels.shape[first + 1]))


def _bounds(kept: slice, length: int) -> tuple[int, int]:
    start, stop, _ = kept.indices(length)
    return start, stop - start


def _equal_pixels(pixels: Pixels) -> Tensor:
    """K[p, p], shape (h, w, …)."""
    if pixels.shape[1] == pixels.shape[3] == 1:
        return pixels[:, 0, :, 0]
    rows = pixels.diagonal(dim1=0, dim2=1)  # (w, u, …, h)
    return rows.diagonal(dim1=0, dim2=1).movedim((-2, -1), (0, 1))


def _scale_of_itself(own: Pixels) -> Tensor:
    """√(K[p,p] K[p',p']); for p = p' this is K[p, p] up to ``ROUNDING``, so that the angle is exactly zero."""
    variance = _equal_pixels(own)
    if own.shape[1] == own.shape[3] == 1:
        return variance[:, None, :, None].clone()
    roots = variance.sqrt()
    return roots[:, None, :, None] * roots[None, :, None, :]


def _product_of_roots(
    variances_x: list[Tensor],
    variances_z: list[Tensor],
    rows: slice,
    columns: slice,
    layer: int,
    pair: Pixels,
) -> Tensor:
    a, b = variances_x[layer][..., rows].sqrt(), variances_z[layer][..., columns].sqrt()
    if pair.shape[1] == pair.shape[3] == 1:
        return a[:, None, :, None, :, None] * b[:, None, :, None, None, :]
    return a[:, None, :, None, :, None] * b[None, :, None, :, None, :]


def _pooled(pixels: Pixels) -> Pixels:
    """Means over 2 × 2 pixels of x and 2 × 2 pixels of z."""
    for dimension in range(4):
        length = pixels.shape[dimension]
        halves = pixels.reshape(*pixels.shape[:dimension], length // 2, 2, *pixels.shape[dimension + 1 :])
        pixels = (halves.select(dimension + 1, 0) + halves.select(dimension + 1, 1)).mul_(0.5)
    return pixels


def _advance(q: Pixels, scale: Tensor) -> Tensor:
    """Overwrite the covariance by that after the ReLU, √(ab) = ``scale``; return E φ′φ′. ``scale`` is used up.

    Parallel patches are common in images (a single bright pixel, equal images), and rounding would show them at an
    angle of 1e-8: what is within ``ROUNDING`` of 0 or π is 0 or π.
    """
    widened = 1 + ROUNDING * torch.finfo(q.dtype).eps
    sine = torch.sub(scale, q, alpha=widened).clamp_min_(0.0).sqrt_()
    sine.mul_(scale.add_(q, alpha=widened).clamp_min_(0.0).sqrt_())
    turn = torch.atan2(sine, q).neg_().add_(pi)
    q.mul_(turn).add_(sine).mul_(1 / (2 * pi))
    return turn.mul_(1 / (2 * pi))
