"""Drawing inputs: nested in n, the same for every learner of a seed.

Every law has mean 0 and E[x_j²] = 1. A covariance is a random correlation matrix whose eigenvalues are
given exactly; it is drawn from the seed's ``law`` stream, so that training, test and normalisation rows of
one seed share it. Source of the construction: R. Bendel, M. Mickey, Communications in Statistics B7 (1978)
163–182, in the stable form of P. Davies, N. Higham, BIT 40 (2000) 640–651.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.seeding import Purpose, generator_for
from bfc_core.specs.inputs import (
    CorrelatedGaussianInputs,
    CubeInputs,
    GaussianInputs,
    GaussianMixtureInputs,
    InputLaw,
)

BLOCK = 1024
"""Rows per independent block; a smaller n is a prefix of a larger one."""


def draw_inputs(law: InputLaw, n: int, dim: int, seed: int, purpose: Purpose) -> Float[Tensor, "n dim"]:
    """Draw ``n`` rows of the law in float64 from the seed's stream for ``purpose``."""
    if isinstance(law, CubeInputs):
        signs = [
            torch.randint(0, 2, (BLOCK, dim), generator=generator_for(seed, purpose, block))
            for block in range((n + BLOCK - 1) // BLOCK)
        ]
        return torch.cat(signs)[:n].double().mul_(2).sub_(1)
    roots = [matrix_root(covariance) for covariance in covariances_of(law, dim, seed)]
    blocks = []
    for block in range((n + BLOCK - 1) // BLOCK):
        generator = generator_for(seed, purpose, block)
        z = torch.randn(BLOCK, dim, generator=generator, dtype=torch.float64)
        # Only the rows that are asked for, so that nothing keeps the others in memory.
        blocks.append(_correlated(z, roots, generator)[: n - BLOCK * block])
    return torch.cat(blocks)


def covariances_of(law: InputLaw, dim: int, seed: int) -> list[Float[Tensor, "dim dim"]]:
    """The covariance of every component of the law, in float64; none where it is the identity: N(0, I), the cube."""
    match law:
        case GaussianInputs() | CubeInputs():
            return []
        case CorrelatedGaussianInputs():
            components = 1
        case GaussianMixtureInputs():
            components = law.components
    return [
        random_correlation(dim, law.condition_number, generator_for(seed, "law", component))
        for component in range(components)
    ]


def random_correlation(
    dim: int, condition_number: float, generator: torch.Generator
) -> Float[Tensor, "dim dim"]:
    """A random symmetric matrix with unit diagonal and log-spaced eigenvalues of that condition number.

    A random rotation of the eigenvalues has trace ``dim``; while a diagonal entry differs from 1, a plane
    rotation of one entry below 1 and one above 1 sets the first to 1 and leaves the spectrum as it is.
    """
    eigenvalues = torch.logspace(0, math.log10(condition_number), dim, dtype=torch.float64)
    eigenvalues *= dim / eigenvalues.sum()
    q, r = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
    q = q * r.diagonal().sign()
    matrix = (q * eigenvalues) @ q.mT
    for _ in range(dim - 1):
        diagonal = matrix.diagonal()
        low, high = int(diagonal.argmin()), int(diagonal.argmax())
        if max(1 - float(diagonal[low]), float(diagonal[high]) - 1) < 1e-13:  # noqa: PLR2004 - rounding
            break
        _set_to_one(matrix, low, high)
    matrix.fill_diagonal_(1.0)
    symmetric: Tensor = (matrix + matrix.mT) / 2
    return symmetric


def matrix_root(covariance: Float[Tensor, "dim dim"]) -> Float[Tensor, "dim dim"]:
    """The symmetric Σ with Σ² = covariance; its row norms are the coordinates' standard deviations."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.mT
    return root


def _correlated(
    z: Float[Tensor, "n dim"], roots: Sequence[Float[Tensor, "dim dim"]], generator: torch.Generator
) -> Float[Tensor, "n dim"]:
    if not roots:
        return z
    if len(roots) == 1:
        return z @ roots[0]
    component = torch.randint(len(roots), (len(z),), generator=generator)
    x = torch.empty_like(z)
    for number, root in enumerate(roots):
        x[component == number] = z[component == number] @ root
    return x


def _set_to_one(matrix: Float[Tensor, "dim dim"], i: int, j: int) -> None:
    """Rotate coordinates i and j, in place, so that entry (i, i) becomes 1.

    With t = tan of the angle, (1 + t²)(entry − 1) = 0 reads (a_jj − 1) t² − 2 a_ij t + (a_ii − 1) = 0; it has
    real roots because a_ii ≤ 1 ≤ a_jj.
    """
    below, above, between = float(matrix[i, i]) - 1, float(matrix[j, j]) - 1, float(matrix[i, j])
    root = between + math.copysign(math.sqrt(between**2 - below * above), between)
    # below / root is the smaller of the two roots in size, without cancellation.
    tangent = below / root if root != 0 else 0.0
    cosine = 1 / math.hypot(1.0, tangent)
    sine = cosine * tangent
    for columns in (matrix, matrix.mT):
        first, second = columns[:, i].clone(), columns[:, j].clone()
        columns[:, i] = cosine * first - sine * second
        columns[:, j] = sine * first + cosine * second
