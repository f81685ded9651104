"""Presets of labels that are not the target's values: noisy, from outside the class, or only a sign."""

from typing import Any

from bfc_core.reproductions.ingredients import EVERY_RUN, PAPER, POLYNOMIAL_4, RBF, SMALL_RECIPE, experiment
from bfc_core.reproductions.measures import error, feature_error, least_of, median_of, nmse, ratio
from bfc_core.reproductions.preset import Evidence, Expectation, Measure, Reproduction
from bfc_core.specs import HierarchicalQuadratic
from bfc_core.theory.agnostic import optimum_of


def _agnostic_floor() -> Reproduction:
    name = "agnostic-floor"
    cases: dict[str, dict[str, Any]] = {
        "noise-0.1": {"label_noise": 0.1},
        "noise-0.3": {"label_noise": 0.3},
        "misspecified-0.1": {"misspecification": 0.1},
        "both": {"label_noise": 0.3, "misspecification": 0.1},
    }
    targets = {
        role: HierarchicalQuadratic(kind="hierarchical_quadratic", widths=(3, 2), alphas=(1, 0.3), **case)
        for role, case in cases.items()
    }
    experiments = {
        role: experiment(
            name,
            role,
            target=target.model_dump(),
            learners=[{"kind": "joint"} | SMALL_RECIPE],
            n=8000,
            dim=12,
            seeds=3,
        )
        for role, target in targets.items()
    }

    def floor(role: str, target: HierarchicalQuadratic) -> Measure:
        def measure(evidence: Evidence) -> float | None:
            found = median_of(role, "joint", nmse)(evidence)
            return None if found is None else (found + target.label_noise**2) / optimum_of(target)

        return measure

    return Reproduction(
        name=name,
        shows="With noisy labels, or a part outside the class, or both, the error on such labels comes down to "
        "(1 + γ) OPT with a small γ.",
        source=f"{PAPER}, the agnostic theorem",
        experiments=experiments,
        expectations=(
            EVERY_RUN,
            *(
                Expectation(
                    f"error over OPT, {role} (OPT = {optimum_of(target):.3g} Var)",
                    0.9,
                    1.5,
                    floor(role, target),
                )
                for role, target in targets.items()
            ),
        ),
        figure="comparison",
        of="both",
    )


def _classification() -> Reproduction:
    name, role = "classification", "labels"
    spec = experiment(
        name,
        role,
        target={
            "kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.3], "task": "classification",
        },
        learners=[
            {"kind": "algorithm_1"} | SMALL_RECIPE,
            {"kind": "layerwise"} | SMALL_RECIPE,
            POLYNOMIAL_4,
            RBF,
        ],
        n=4000,
        dim=10,
        seeds=5,
    )  # fmt: skip
    kernels = ("kernel_ridge polynomial degree 4", "kernel_ridge rbf")
    return Reproduction(
        name=name,
        shows="From labels sgn(x₀ + G*(x)) alone, by the logistic objective, Algorithm 1 finds the features and errs "
        "on few labels; layerwise training errs on more and keeps a worse lower feature, kernels err many times as "
        "often.",
        source=f"{PAPER}, the classification theorem",
        experiments={role: spec},
        expectations=(
            EVERY_RUN,
            Expectation("error of algorithm_1", None, 0.02, median_of(role, "algorithm_1", error)),
            Expectation(
                "error, layerwise over algorithm_1",
                1.15,
                None,
                ratio(role, "layerwise", "algorithm_1", error),
            ),
            Expectation(
                "level-2 feature error, layerwise over algorithm_1",
                1.5,
                None,
                ratio(role, "layerwise", "algorithm_1", feature_error(2)),
            ),
            Expectation("error of the best kernel", 0.05, None, least_of(role, kernels, error)),
        ),
        figure="comparison",
        of=role,
    )


LABEL_PRESETS = (_agnostic_floor(), _classification())
