"""Errors of a predictor on fresh samples, whole and by level."""

import torch
from jaxtyping import Float
from torch import Tensor

VANISHING = 1e-9
"""A degree whose part is below this share of the target's norm is rounding."""


def normalised_mse(
    predicted: Float[Tensor, " n"] | Float[Tensor, "n c"], true: Float[Tensor, " n"] | Float[Tensor, "n c"]
) -> float:
    """E‖f̂ − f‖² / E‖f − E f‖². Never clipped: values above 1 are legal."""
    predicted, true = predicted.double(), true.double()
    return float((predicted - true).square().mean() / true.var(0, unbiased=False).mean())


def variance_share(coefficient: float) -> float:
    """1 − (1 − β)²; infinite where the square overflows."""
    return 1 - (1 - coefficient) * (1 - coefficient)


def level_coefficients(
    predicted: Float[Tensor, " n"], parts: dict[int, Float[Tensor, " n"]]
) -> dict[int, float]:
    """β_ℓ = ⟨f̂, u_ℓ⟩ / ⟨f, u_ℓ⟩ with u_ℓ the part of level ℓ that 1 and the lower parts do not explain.

    ``parts`` sum to the target f. 1 means that the predictor carries the level as the target does, 0 that it
    carries none of it. Levels whose part vanishes (α_ℓ = 0) have no coefficient and are left out.
    """
    n = len(predicted)
    true = torch.stack([part.double() for part in parts.values()]).sum(0)
    basis = [torch.full((n,), n**-0.5, dtype=torch.float64, device=predicted.device)]
    coefficients: dict[int, float] = {}
    for level in sorted(parts):
        new = parts[level].double()
        scale = new.norm()
        for _ in range(2):  # twice is enough for orthogonality to rounding
            for direction in basis:
                new = new - (direction @ new) * direction
        if scale == 0 or new.norm() <= 1e-12 * scale:
            continue
        coefficients[level] = float(predicted.double() @ new / (true @ new))
        basis.append(new / new.norm())
    return coefficients


def degree_coefficients(
    predicted: Float[Tensor, " n"], parts: dict[int, Float[Tensor, " n"]]
) -> dict[int, float]:
    """β_k of the regression of f̂ on a constant and the target's parts f_k by degree.

    1 means that the predictor carries the degree as the target does. On the whole law the f_k are orthogonal and
    β_k = E[f̂ f_k] / E[f_k²]; regressed together, a predictor Σ c_k f_k has β_k = c_k on any rows. Degree 0 and
    degrees that the target does not have are left out.
    """
    total = torch.stack([part.double() for part in parts.values()]).sum(0).norm() if parts else 0.0
    found = {
        degree: part.double()
        for degree, part in parts.items()
        if degree > 0 and float(part.double().norm()) > VANISHING * float(total)
    }
    if not found:
        return {}
    columns = torch.stack([torch.ones_like(predicted, dtype=torch.float64), *found.values()], 1)
    norms = columns.norm(dim=0)
    basis, upper = torch.linalg.qr(columns / norms)
    solved = torch.linalg.solve_triangular(upper, (basis.mT @ predicted.double())[:, None], upper=True)[:, 0]
    return dict(zip(found, (solved / norms)[1:].tolist(), strict=True))
