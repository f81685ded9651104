"""Errors of a predictor on fresh samples, whole and by level."""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class LevelDirections:
    """By level the unit u_ℓ, and ⟨f, u_ℓ⟩: what of a target's parts level coefficients need."""

    by_level: dict[int, tuple[Float[Tensor, " n"], Float[Tensor, ""]]]

    @classmethod
    def of(cls, parts: dict[int, Float[Tensor, " n"]]) -> "LevelDirections":
        """Orthogonalise the parts, from the lowest; a level whose part vanishes (α_ℓ = 0) has no direction."""
        if not parts:
            return cls({})
        true = torch.stack([part.double() for part in parts.values()]).sum(0)
        n = len(true)
        basis = [torch.full((n,), n**-0.5, dtype=torch.float64, device=true.device)]
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for level in sorted(parts):
            new = parts[level].double()
            scale = new.norm()
            for _ in range(2):  # twice is enough for orthogonality to rounding
                for direction in basis:
                    new = new - (direction @ new) * direction
            if scale == 0 or new.norm() <= 1e-12 * scale:
                continue
            found[level] = new, true @ new
            basis.append(new / new.norm())
        return cls(found)

    def coefficients(self, predicted: Float[Tensor, " n"]) -> dict[int, float]:
        """β_ℓ of :func:`level_coefficients`."""
        predicted = predicted.double()
        return {level: float(predicted @ new / known) for level, (new, known) in self.by_level.items()}


def level_coefficients(
    predicted: Float[Tensor, " n"], parts: dict[int, Float[Tensor, " n"]]
) -> dict[int, float]:
    """β_ℓ = ⟨f̂, u_ℓ⟩ / ⟨f, u_ℓ⟩ with u_ℓ the part of level ℓ that 1 and the lower parts do not explain.

    ``parts`` sum to the target f. 1 means that the predictor carries the level as the target does, 0 that it
    carries none of it. Levels whose part vanishes (α_ℓ = 0) have no coefficient and are left out.
    """
    return LevelDirections.of(parts).coefficients(predicted)


@dataclass(frozen=True)
class DegreeBasis:
    """The target's parts by degree, orthonormalised beside a constant: columns / norms = basis · upper.

    ``basis`` is None where the target has no degrees.
    """

    degrees: tuple[int, ...] = ()
    basis: Float[Tensor, "n c"] | None = None
    upper: Float[Tensor, "c c"] | None = None
    norms: Float[Tensor, " c"] | None = None

    @classmethod
    def of(cls, parts: dict[int, Float[Tensor, " n"]]) -> "DegreeBasis":
        """Degree 0 and degrees that the target does not have are left out."""
        total = torch.stack([part.double() for part in parts.values()]).sum(0).norm() if parts else 0.0
        found = {
            degree: part.double()
            for degree, part in parts.items()
            if degree > 0 and float(part.double().norm()) > VANISHING * float(total)
        }
        if not found:
            return cls()
        one = torch.ones_like(next(iter(found.values())))
        columns = torch.stack([one, *found.values()], 1)
        norms = columns.norm(dim=0)
        basis, upper = torch.linalg.qr(columns / norms)
        return cls(tuple(found), basis, upper, norms)

    def coefficients(self, predicted: Float[Tensor, " n"]) -> dict[int, float]:
        """β_k of :func:`degree_coefficients`."""
        if self.basis is None or self.upper is None or self.norms is None:
            return {}
        right = (self.basis.mT @ predicted.double())[:, None]
        solved = torch.linalg.solve_triangular(self.upper, right, upper=True)[:, 0]
        return dict(zip(self.degrees, (solved / self.norms)[1:].tolist(), strict=True))


def degree_coefficients(
    predicted: Float[Tensor, " n"], parts: dict[int, Float[Tensor, " n"]]
) -> dict[int, float]:
    """β_k of the regression of f̂ on a constant and the target's parts f_k by degree.

    1 means that the predictor carries the degree as the target does. On the whole law the f_k are orthogonal and
    β_k = E[f̂ f_k] / E[f_k²]; regressed together, a predictor Σ c_k f_k has β_k = c_k on any rows. Degree 0 and
    degrees that the target does not have are left out.
    """
    return DegreeBasis.of(parts).coefficients(predicted)
