"""Theory sheets of the targets whose levels are degrees."""

from bfc_core.specs.plain_targets import (
    AnyPlainTarget,
    Harmonic,
    HierarchicalPolynomial,
    MultiIndex,
    StackedQuadratic,
    Staircase,
    TabularRfm,
)
from bfc_core.theory.sheet import Bound, Sheet

DEGREES = "arXiv:1904.12191"
KERNELS = "kernels and feature maps"
"""The class of learners that ``theory_exponent`` looks for beside a kernel."""


def plain_sheet_of(target: AnyPlainTarget) -> Sheet:
    """Formula, degree and bounds; exponents are those of dim in the number of samples."""
    match target:
        case Staircase():
            return _staircase(target)
        case MultiIndex():
            degree = max(target.degrees) if target.link == "hermite" else 1
            step = Bound(
                "one giant step",
                "n ∝ dim aligns a first layer with a direction of information exponent 1: "
                "cos² = 1/(1 + (dim/n) E[y²]/μ₁²)",
                1.0,
                "arXiv:2205.01445",
            )
            formula = (
                "Σ_k Σ_j He_k(⟨u_kj, x⟩)/√(k! r K)"
                if target.link == "hermite"
                else "Σ_j ReLU(⟨u_j, x⟩)/√r − c"
            )
            return Sheet(formula, degree, (_kernels(degree), step), ())
        case HierarchicalPolynomial():
            degree = 2 * len(target.coefficients)
            layers = Bound(
                "three layers",
                "about dim² samples, whatever the degree in p",
                2.0,
                "arXiv:2305.06986, arXiv:2311.13774",
            )
            return Sheet("Σ_q c_q h_q(p(x)), p = xᵀAx", degree, (_kernels(degree), layers), ())
        case StackedQuadratic():
            parameters = Bound(
                "any learner", "about k · dim parameters must be found at level 1", 1.0, "parameter count"
            )
            return Sheet("Σ_i z_i/√k + α Σ_j ((b_j·z)² − 1)/√(15 r)", 4, (_kernels(4), parameters), ())
        case Harmonic():
            formula = "Π_{i ≤ k} x_i" if target.form == "parity" else "He_k(⟨u, x⟩)/√k!"
            return Sheet(formula, target.degree, (_kernels(target.degree),), ())
        case TabularRfm():
            machine = Bound(
                "recursive feature machine",
                "MSE .0123 → .0020 in five rounds at n = 4000, dim 20 (of a variance of .03125)",
                None,
                "arXiv:2212.13881",
            )
            return Sheet("x₁ x₂ 1[x₆ > 0] / 4", 2, (_kernels(2), machine), ())


def _staircase(target: Staircase) -> Sheet:
    degree = max(map(len, target.sets))
    bounds = [_kernels(degree)]
    if target.leap is not None:
        bounds.append(
            Bound(
                "online gradient descent",
                f"leap {target.leap}: time and samples about dim^max(leap, 2) up to logarithms",
                float(max(target.leap, 2)),
                "arXiv:2302.11055",
            )
        )
    return Sheet("Σ_S c_S Π_{i∈S} x_i", degree, tuple(bounds), ())


def _kernels(degree: int) -> Bound:
    return Bound(
        KERNELS,
        f"rotation-invariant kernels learn degree {degree} from about dim^{degree} samples, and peak near "
        f"dim^r/r! for r ≤ {degree}",
        float(degree),
        f"{DEGREES}, arXiv:2205.14846",
    )
