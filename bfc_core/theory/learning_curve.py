"""Kernel ridge in theory: the learning curve from a spectrum, the degrees that are learned, and where it peaks.

The learning curve (Canatar, Bordelon and Pehlevan, arXiv:2006.13198; Simon et al., arXiv:2110.03922): with eigenvalues
λ_k of multiplicity m_k, ridge δ and n samples let κ solve Σ_k m_k λ_k/(λ_k + κ) + δ/κ = n and
L_k = λ_k/(λ_k + κ). A target with the share v_k of its variance in eigenspace k has the expected error

    MSE = n/(n − Σ_k m_k L_k²) · (Σ_k (1 − L_k)² v_k + noise variance).

Degrees: a rotation-invariant kernel with d^ℓ ≪ n ≪ d^{ℓ+1} learns degree ℓ at most (Ghorbani et al.,
arXiv:1904.12191), and with a small ridge its error peaks near n = d^r/r! (Xiao et al., arXiv:2205.14846). Torch-free.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb, cosh, exp, factorial, log, sinh


@dataclass(frozen=True)
class Eigenspace:
    """An eigenvalue under the input law and its multiplicity; on the cube ``degree`` is that of the monomials."""

    degree: int
    eigenvalue: float
    multiplicity: int


def exponential_kernel_on_the_cube(dim: int) -> list[Eigenspace]:
    """exp(x·z/d) under the uniform law on {−1, 1}^d: λ_k = sinh(1/d)^k cosh(1/d)^{d−k}, multiplicity C(d, k)."""
    return [
        Eigenspace(k, sinh(1 / dim) ** k * cosh(1 / dim) ** (dim - k), comb(dim, k)) for k in range(dim + 1)
    ]


def rbf_on_the_cube(dim: int, bandwidth: float) -> list[Eigenspace]:
    """exp(−‖x − z‖²/(2 b² d)) = e^(−1/b²) exp(x·z/(b² d)) there: the same with 1/(b² d) for 1/d, times e^(−1/b²)."""
    rate, scale = 1 / (bandwidth**2 * dim), exp(-1 / bandwidth**2)
    return [
        Eigenspace(k, scale * sinh(rate) ** k * cosh(rate) ** (dim - k), comb(dim, k)) for k in range(dim + 1)
    ]


def expected_mse(
    spectrum: Sequence[Eigenspace],
    power: Mapping[int, float],
    n: float,
    ridge: float,
    noise_variance: float = 0.0,
) -> float:
    """The learning curve at n; ``power`` is the target's variance by degree, ``ridge`` that of (K + ridge·I).

    Raises:
        ValueError: a degree of the target is not in the spectrum, or n or the ridge is not positive.
    """
    if n <= 0 or ridge <= 0:
        raise ValueError("a learning curve needs n > 0 and a positive ridge")
    missing = set(power) - {space.degree for space in spectrum}
    if missing:
        raise ValueError(f"the spectrum has no degree {sorted(missing)}")
    kappa = effective_ridge(spectrum, n, ridge)
    learned = {space.degree: space.eigenvalue / (space.eigenvalue + kappa) for space in spectrum}
    overfitted = sum(space.multiplicity * learned[space.degree] ** 2 for space in spectrum)
    left = sum((1 - learned[degree]) ** 2 * variance for degree, variance in power.items())
    return n / (n - overfitted) * (left + noise_variance)


def effective_ridge(spectrum: Sequence[Eigenspace], n: float, ridge: float) -> float:
    """κ of the learning curve."""

    def excess(kappa: float) -> float:
        used = sum(s.multiplicity * s.eigenvalue / (s.eigenvalue + kappa) for s in spectrum)
        return used + ridge / kappa - n

    # κ ≥ ridge/n, where the sum alone is positive; κ ≤ (trace + ridge)/n, where it is at most n.
    trace = sum(space.multiplicity * space.eigenvalue for space in spectrum)
    low, high = log(ridge / n), log((trace + ridge) / n)
    # The excess falls with κ: halving finds its one root to the last digits, and needs no part of scipy.
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if excess(exp(middle)) > 0 else (low, middle)
    return exp(high)


def learned_degree(n: int, dim: int) -> int:
    """ℓ with d^ℓ ≤ n < d^{ℓ+1}: the highest degree that a rotation-invariant kernel can have learned from n samples."""
    degree = 0
    while dim > 1 and dim ** (degree + 1) <= n:
        degree += 1
    return degree


def degree_thresholds(dim: int, degrees: Sequence[int]) -> dict[int, int]:
    """d^ℓ by degree: samples from which a rotation-invariant kernel begins to learn that degree."""
    return {degree: dim**degree for degree in degrees}


def interpolation_peaks(dim: int, degrees: Sequence[int]) -> dict[int, float]:
    """d^r/r! by degree: where a nearly ridgeless kernel's error peaks."""
    return {degree: dim**degree / factorial(degree) for degree in degrees}
