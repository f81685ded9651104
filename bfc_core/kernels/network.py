"""Kernels of infinitely wide networks: NNGP (covariance at initialisation) and NTK (tangent kernel).

NTK parametrisation (Jacot et al., arXiv:1806.07572; Lee et al., arXiv:1711.00165): weights and biases are
N(0, 1) and enter as s_w / √fan_in and s_b. With K₀ = s_w² x·z/d + s_b² and Θ₀ = K₀, a hidden layer with
activation φ maps a = K(x,x), q = K(x,z), b = K(z,z) to

    K ← s_w² E φ(u)φ(v) + s_b²,   Θ ← K_new + s_w² E φ′(u)φ′(v) · Θ,   (u, v) ~ N(0, [[a, q], [q, b]]).

ReLU: E φφ = (r + (π − t) q) / 2π, E φ′φ′ = (π − t) / 2π with r = √((√(ab) − q)(√(ab) + q)), t = atan2(r, q):
the arc cosine of q/√(ab) without its loss of half the digits near ±1 (Cho and Saul, 2009).
erf: with r = √((1 + 2a)(1 + 2b)), E φφ = (2/π) asin(2q/r), E φ′φ′ = (4/π)/√(r² − 4q²) (Williams, 1997).
Pairs for which q says too little of the angle are taken through the layers by their angle: ``parallel.py``.
Quadratic z²: E φφ = ab + 2q², E φ′φ′ = 4q. Centred quadratic (z² − 1)/√2: E φφ = q² + (a − 1)(b − 1)/2,
E φ′φ′ = 2q. Quadratic kernels of depth L are polynomials of degree 2^L; without a bias and on inputs of unit
variance the centred one is the pure power NNGP = ρ^(2^L), NTK = (2^(L+1) − 1) ρ^(2^L), blind to all other degrees.
"""

from dataclasses import dataclass
from math import pi, sqrt
from typing import assert_never

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bfc_core.kernels.angle import complement_of_angle, nearly_parallel
from bfc_core.kernels.base import Kernel
from bfc_core.kernels.distance import Pairs, pairs_of
from bfc_core.kernels.parallel import Layer, erf_of_pairs, relu_of_pairs
from bfc_core.specs.kernels import NetworkActivation

LARGE = 1e4
"""1 + 2a up to which erf's (1 + 2a)(1 + 2b) − 4q² loses no more than four digits."""

SMALL = 1e-2
"""Its root below this share of √((1 + 2a)(1 + 2b)) is taken from the angle."""


@dataclass(frozen=True)
class NetworkKernel(Kernel):
    """NNGP, or with ``tangent`` the NTK, of a dense network with ``depth`` hidden layers.

    ``weight_variance`` is s_w² and ``bias_variance`` s_b², the same in every layer.
    """

    tangent: bool
    depth: int
    activation: NetworkActivation
    weight_variance: float
    bias_variance: float

    def block(self, x: Float[Tensor, "n d"], z: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        """The layer recursion on one block, in place."""
        a, b = self._input_variance(x), self._input_variance(z)
        covariance = torch.mm(x, z.mT).mul_(self.weight_variance / x.shape[1]).add_(self.bias_variance)
        tangent = covariance.clone()
        unclear: Tensor | None = None
        for _ in range(self.depth):
            slope, near = self._advance(covariance, a, b)
            if near is not None:
                unclear = near if unclear is None else unclear | near
            if self.tangent:
                tangent.mul_(slope).mul_(self.weight_variance).add_(covariance)
            a, b = self._next_variance(a), self._next_variance(b)
        values = tangent if self.tangent else covariance
        if unclear is not None:
            pairs = pairs_of(unclear)
            values[pairs] = self._pairs(x, z, pairs)
        return values

    def diagonal(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The recursion at x = z, where it needs neither angle nor root."""
        variance = self._input_variance(x)
        tangent = variance
        for _ in range(self.depth):
            slope = self._slope(variance)
            variance = self._next_variance(variance)
            tangent = variance + self.weight_variance * slope * tangent
        return tangent if self.tangent else variance

    def _input_variance(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        return x.square().sum(1) * (self.weight_variance / x.shape[1]) + self.bias_variance

    def _slope(self, a: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """E φ′(u)² for u ~ N(0, a)."""
        match self.activation:
            case "relu":
                return torch.full_like(a, 0.5)
            case "erf":
                return (4 / pi) * (1 + 4 * a).rsqrt()
            case "quadratic":
                return 4 * a
            case "centred_quadratic":
                return 2 * a
            case _:
                assert_never(self.activation)

    def _next_variance(self, a: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        match self.activation:
            case "relu":
                second_moment = a / 2
            case "erf":
                # asin(2a/(1 + 2a)) as an arc tangent: its slope does not blow up where the argument nears 1.
                second_moment = (2 / pi) * torch.atan2(2 * a, (1 + 4 * a).sqrt())
            case "quadratic":
                second_moment = 3 * a.square()
            case "centred_quadratic":
                second_moment = a.square() + (a - 1).square() / 2
            case _:
                assert_never(self.activation)
        return self.weight_variance * second_moment + self.bias_variance

    def _pairs(self, x: Float[Tensor, "n d"], z: Float[Tensor, "m d"], pairs: Pairs) -> Float[Tensor, " p"]:
        """k of p pairs, from the angle between the rows of the first layer's pre-activations."""
        layer = Layer(self.weight_variance, self.bias_variance, self._next_variance)
        of_pairs = relu_of_pairs if self.activation == "relu" else erf_of_pairs
        covariance, tangent = of_pairs(layer, self.depth, self._with_bias(x), self._with_bias(z), pairs)
        return tangent if self.tangent else covariance

    def _with_bias(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
        """Rows whose inner products are the covariances before the first activation."""
        constant = torch.full_like(x[:, :1], sqrt(self.bias_variance))
        return torch.cat([x * sqrt(self.weight_variance / x.shape[1]), constant], dim=1)

    def _advance(
        self, q: Float[Tensor, "n m"], a: Float[Tensor, " n"], b: Float[Tensor, " m"]
    ) -> tuple[Float[Tensor, "n m"], Bool[Tensor, "n m"] | None]:
        """Overwrite the covariance q by the next layer's; return E φ′φ′ of this layer, and where q says too little."""
        near = None
        match self.activation:
            case "relu":
                slope, sine = complement_of_angle(q, a, b)
                q.mul_(slope).add_(sine).mul_(1 / (2 * pi))
                slope.div_(2 * pi)
                near = nearly_parallel(slope, 0.5)
            case "erf":
                root, near = _root_of_erf(q, a, b)
                q.mul_(2.0).atan2_(root).mul_(2 / pi)
                slope = root.reciprocal_().mul_(4 / pi)
            case "quadratic":
                slope = 4 * q
                q.square_().mul_(2.0).addr_(a, b)
            case "centred_quadratic":
                slope = 2 * q
                q.square_().addr_((a - 1) / 2, b - 1)
            case _:
                assert_never(self.activation)
        q.mul_(self.weight_variance).add_(self.bias_variance)
        return slope, near


def _root_of_erf(
    q: Float[Tensor, "n m"], a: Float[Tensor, " n"], b: Float[Tensor, " m"]
) -> tuple[Float[Tensor, "n m"], Bool[Tensor, "n m"] | None]:
    """√((1 + 2a)(1 + 2b) − 4q²), and where it is only rounding of its terms; that takes large variances."""
    left, right = 1 + 2 * a, 1 + 2 * b
    if bool(left.max() <= LARGE) and bool(right.max() <= LARGE):
        return torch.outer(left, right).addcmul_(q, q, value=-4.0).sqrt_(), None
    scale = torch.outer(left.sqrt(), right.sqrt())
    root = (scale - 2 * q).clamp_min_(0.0).sqrt_().mul_((scale + 2 * q).clamp_min_(0.0).sqrt_())
    return root, root < scale.mul_(SMALL)
