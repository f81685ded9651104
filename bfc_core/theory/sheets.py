"""Theory sheets: what is known of a target's sample complexity, per class of learners, with its source.

Exponents are those of dim in the number of samples at fixed widths and α. They are leading orders of bounds,
not predictions of a measured slope: a fit at small dims may lie on either side.
"""

from bfc_core.specs import AnyLearner, AnyTarget, KernelRidge, hierarchy_of
from bfc_core.specs.learners import Recipe
from bfc_core.specs.plain_targets import PlainTarget
from bfc_core.theory.plain_sheets import plain_sheet_of
from bfc_core.theory.sheet import Bound as Bound
from bfc_core.theory.sheet import Sheet as Sheet
from bfc_core.theory.sheet import Threshold as Threshold

PAPER = "arXiv:2001.04413"
HARMONIC = "arXiv:1904.12191"


FORMULAS = {
    "hierarchical_quadratic": "G* = Σ_ℓ α_ℓ ‖S_ℓ‖², S_ℓ = Σ_{j∈J_ℓ} W_{ℓ,j} G_j, G_j = S_j², G_1 = x² − 1, G_0 = x",
    "worked_example_1": "x₁² + 2x₂² + α (x₁² + 2x₂² + x₃)²",
    "worked_example_2": "x₁⁴ + x₂⁴ + α ((x₁⁴ + x₃)² + (x₂⁴ + x₄)²)",
    "kernel_hard_instance": "as hierarchical_quadratic with k_ℓ = 1 and rows of p = 2^(L−1) entries 1/√p",
}


def sheet_of(target: AnyTarget) -> Sheet | None:
    """The sheet of a target; None where this library holds none for its family."""
    if isinstance(target, PlainTarget):
        return plain_sheet_of(target)
    if target.kind not in FORMULAS:
        return None
    hierarchy = hierarchy_of(target)
    # Example 1 reads x itself at level 2, so its degrees are half of the others'.
    lowest_degree = 2 if hierarchy.connections[2] == (0,) else 4
    degree = lowest_degree * 2 ** (len(hierarchy.levels) - 1)
    in_features = degree // 2 if lowest_degree == 4 else degree  # noqa: PLR2004 - read from x² − 1
    thresholds = tuple(
        Threshold(
            f"alpha_{level}_squared",
            hierarchy.alphas[level] ** 2,
            f"level {level - 1} features stay within α_{level}² (+ error²) until level {level} is trained (Theorem 2)",
        )
        for level in hierarchy.levels[1:]
    )
    bounds = (
        Bound(
            "hierarchical, all levels trained",
            "poly(dim/ε) samples, steps and width, with an exponent that does not grow with L (Theorem 1)",
            None,
            PAPER,
        ),
        Bound(
            "any learner",
            "at least k_2 · dim parameters must be found at level 2",
            1.0,
            "parameter count",
        ),
        Bound(
            "kernels and feature maps",
            f"risk Ω(α_L²) with fewer than C(dim, {in_features})/1000 samples or features, on the hard instance",
            float(in_features),
            f"{PAPER}, lower bounds",
        ),
        Bound(
            "inner-product kernels",
            f"a polynomial of degree {degree} in x needs about dim^{degree} samples",
            float(degree),
            HARMONIC,
        ),
        Bound(
            "layerwise",
            "level ℓ keeps the error α_{ℓ+1} that the next level's signal left in it (argued, not proved)",
            None,
            PAPER,
        ),
    )
    return Sheet(FORMULAS[target.kind], degree, bounds, thresholds)


def theory_exponent(target: AnyTarget, learner: AnyLearner) -> Bound | None:
    """The bound with an exponent that holds for this learner on this target, if there is one."""
    sheet = sheet_of(target)
    if sheet is None:
        return None
    match learner:
        case Recipe():
            wanted = "any learner"
        case KernelRidge():
            wanted = "kernels and feature maps"
        case _:
            return None
    return next(bound for bound in sheet.bounds if bound.learners == wanted)
