"""Every preset. Settings are small enough for two cores; measured values stand in docs/records.

The tolerances leave room for other machines and seeds, not for another outcome: each one is the claim.
"""

from typing import Any

from bfc_core.reproductions.baseline_presets import BASELINE_PRESETS
from bfc_core.reproductions.measures import (
    alpha_slope,
    at_end_of,
    at_start_of,
    at_the_end,
    censored_share,
    error,
    exponent,
    feature_error,
    finished_share,
    greatest_of,
    improvement,
    least_of,
    median_of,
    nmse,
    ratio,
    variance_explained,
)
from bfc_core.reproductions.preset import Evidence, Expectation, Measure, Reproduction
from bfc_core.specs import ExperimentSpec, HierarchicalQuadratic
from bfc_core.theory.agnostic import optimum_of

PAPER = "arXiv:2001.04413"
CATALOGUE = "this project"

SMALL_RECIPE: dict[str, Any] = {"batch_size": 256, "steps_per_stage": 2000, "width": 20}
"""A quarter of the default recipe's work; used where the claim does not rest on the last digit."""

EVERY_RUN = Expectation("share of runs that succeeded", 1, 1, finished_share)

POLYNOMIAL_2, POLYNOMIAL_4, POLYNOMIAL_8 = (
    {"kind": "kernel_ridge", "kernel": {"kind": "polynomial", "degree": degree}} for degree in (2, 4, 8)
)
RBF = {"kind": "kernel_ridge", "kernel": {"kind": "rbf"}}


def _experiment(preset: str, role: str, **fields: Any) -> ExperimentSpec:  # noqa: ANN401 - fields of the spec
    return ExperimentSpec.model_validate({"name": f"reproduce/{preset}/{role}"} | fields)


def _algorithm_1() -> Reproduction:
    name, role = "bfc-algorithm-1", "comparison"
    learners = [
        {"kind": "algorithm_1"}, {"kind": "layerwise"}, POLYNOMIAL_4, RBF, {"kind": "recursive_feature_machine"},
    ]  # fmt: skip
    outside = ("kernel_ridge polynomial degree 4", "kernel_ridge rbf", "recursive_feature_machine")
    spec = _experiment(
        name,
        role,
        target={"kind": "hierarchical_quadratic", "widths": [3, 2], "alphas": [1, 0.1]},
        learners=learners,
        n=4000,
        dim=20,
        seeds=3,
    )
    return Reproduction(
        name=name,
        shows="Algorithm 1 learns a degree-8 target of 20 inputs from 4000 samples; frozen lower levels stay behind, "
        "and neither kernels nor a feature machine learn it.",
        source=f"{PAPER}, Algorithm 1 and Theorem 1; figures of this project",
        experiments={role: spec},
        expectations=(
            EVERY_RUN,
            Expectation("nMSE of algorithm_1", None, 1e-3, median_of(role, "algorithm_1", nmse)),
            Expectation(
                "nMSE, layerwise over algorithm_1", 5, None, ratio(role, "layerwise", "algorithm_1", nmse)
            ),
            Expectation(
                "level-2 feature error, layerwise over algorithm_1",
                3,
                None,
                ratio(role, "layerwise", "algorithm_1", feature_error(2)),
            ),
            Expectation("nMSE of the best learner without levels", 0.3, None, least_of(role, outside, nmse)),
        ),
        figure="comparison",
        of=role,
    )


def _alpha_squared() -> Reproduction:
    name, role = "bfc-alpha-squared", "alphas"
    spec = _experiment(
        name,
        role,
        target={"kind": "hierarchical_quadratic", "widths": [3, 2]},
        alphas=[[1, 0.03], [1, 0.1], [1, 0.3]],
        learners=[{"kind": "algorithm_1", "loss": "squared"}],
        n=4000,
        dim=20,
        seeds=5,
    )
    forward = at_end_of("level 2 distilled", level=2)
    return Reproduction(
        name=name,
        shows="Before level 3 is trained its signal leaves an error ∝ α₃² in the feature of level 2 (Theorem 2); "
        "training level 3 removes most of it.",
        source=f"{PAPER}, Theorem 2",
        experiments={role: spec},
        expectations=(
            EVERY_RUN,
            Expectation(
                "slope of the forward level-2 error against α₃ (log–log)",
                1.8,
                2.2,
                alpha_slope(role, 3, forward, "algorithm_1"),
            ),
            Expectation(
                "level-2 error before correction over after",
                3,
                None,
                improvement(role, "algorithm_1", forward, at_the_end(2)),
            ),
        ),
        figure="alpha-slope",
        of=role,
    )


def _matched_control() -> Reproduction:
    name = "bfc-matched-control"
    twins = {"hierarchy": None, "alpha-zero": "alpha_zero", "random-polynomial": "random_polynomial"}
    experiments = {
        role: _experiment(
            name,
            role,
            target={
                "kind": "hierarchical_quadratic", "widths": [3, 2], "alphas": [1, 0.2], "null_twin": twin,
            },
            learners=[{"kind": "algorithm_1"} | SMALL_RECIPE, {"kind": "layerwise"} | SMALL_RECIPE],
            n=4000,
            dim=12,
            seeds=5,
        )
        for role, twin in twins.items()
    }  # fmt: skip

    def gain(role: str) -> Measure:
        return ratio(role, "matched_compute_control", "algorithm_1", feature_error(2))

    return Reproduction(
        name=name,
        shows="The level-2 feature improves because level 3 is trained: the same number of further steps on level 2 "
        "alone does not do it, and where the hierarchy is destroyed next to nothing is gained.",
        source=f"{PAPER}, §1 (backward feature correction); the control and the null twins are {CATALOGUE}'s",
        experiments=experiments,
        expectations=(
            EVERY_RUN,
            Expectation("backward gain with the hierarchy", 100, None, gain("hierarchy")),
            Expectation("backward gain at α = 0", 0.9, 1.1, gain("alpha-zero")),
            Expectation("backward gain under a random polynomial", 0.8, 2, gain("random-polynomial")),
        ),
        figure="feature-error",
        of="hierarchy",
    )


def _sample_complexity() -> Reproduction:
    name, eps, delta = "sample-complexity", 0.1, 0.4
    shared: dict[str, Any] = {
        "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
        "seeds": 5,
        "budget": {"test_samples": 4000},
    }
    network = _experiment(
        name,
        "network",
        learners=[{"kind": "joint", "batch_size": 128, "steps_per_stage": 1000, "width": 16}],
        n=[12, 16, 24, 32, 48, 64, 96, 128, 192, 256],
        dim=[8, 12, 18, 27],
        **shared,
    )
    # The kernels' n* leaves every affordable grid at the dims where the network's begins to move.
    kernels = _experiment(
        name,
        "kernels",
        learners=[POLYNOMIAL_4, POLYNOMIAL_2 | {"feature_map": "quadratic"}],
        n=[32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048],
        dim=[5, 6, 8, 10],
        **shared,
    )
    given, kernel = "kernel_ridge polynomial degree 2 given", "kernel_ridge polynomial degree 4"
    return Reproduction(
        name=name,
        shows="The samples that a hierarchical learner needs grow with a smaller power of dim than those of a kernel, "
        "even of one that is given x² − 1.",
        source=f"{PAPER}, Theorem 1 and the lower bounds",
        experiments={"network": network, "kernels": kernels},
        expectations=(
            EVERY_RUN,
            Expectation("exponent of joint", 0, 1.5, exponent("network", "joint", eps, delta)),
            Expectation(
                "exponent of the degree-4 kernel", 2.2, None, exponent("kernels", kernel, eps, delta)
            ),
            Expectation(
                "exponent of the kernel that is given (x, x² − 1)",
                1.3,
                None,
                exponent("kernels", given, eps, delta),
            ),
        ),
        figure="complexity",
        of="network",
        eps=eps,
        delta=delta,
    )


def _sample_complexity_of_learners() -> Reproduction:
    """Those for which n* is cheap; joint and the kernel that is given a map are in ``sample-complexity``."""
    name, eps, delta = "sample-complexity-learners", 0.1, 0.4
    shared: dict[str, Any] = {
        "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
        "seeds": 3,
        "budget": {"test_samples": 2000},
    }
    of_degree_4 = {"kind": "feature_map_regression", "degree": 4}
    degrees = _experiment(
        name,
        "degrees",
        learners=[POLYNOMIAL_4, RBF, of_degree_4],
        n=[16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512],
        dim=[3, 4, 5, 7],
        **shared,
    )
    beyond = _experiment(
        name,
        "beyond",
        learners=[
            {"kind": "kernel_ridge", "kernel": {"kind": "ntk"}},
            {"kind": "random_features"},
            {"kind": "recursive_feature_machine", "rounds": 3},
        ],
        n=[64, 256, 512],
        dim=[3, 4, 5, 7],
        **shared,
    )
    steep = {
        "degree-4 kernel": "kernel_ridge polynomial degree 4",
        "RBF kernel": "kernel_ridge rbf",
        "regression on monomials to degree 4": "feature_map_regression",
    }
    censored = {
        "NTK": "kernel_ridge ntk",
        "random features": "random_features",
        "feature machine": "recursive_feature_machine",
    }
    return Reproduction(
        name=name,
        shows="n*(0.1) of learners without levels side by side: regression on degree 4 in one way or another needs "
        "dim² or more, ReLU kernels and feature machines more than any n that is tried.",
        source=f"{PAPER}, Theorem 1 and the lower bounds; figures of {CATALOGUE}",
        experiments={"degrees": degrees, "beyond": beyond},
        expectations=(
            EVERY_RUN,
            *(
                Expectation(f"exponent of the {title}", 1.8, 3.5, exponent("degrees", label, eps, delta))
                for title, label in steep.items()
            ),
            *(
                Expectation(
                    f"share of dims at which n* of the {title} is above 512",
                    0.75,
                    1,
                    censored_share("beyond", label, eps, delta),
                )
                for title, label in censored.items()
            ),
        ),
        figure="complexity",
        of="degrees",
        eps=eps,
        delta=delta,
    )


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
        role: _experiment(
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
    spec = _experiment(
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


def _kernel_lower_bound() -> Reproduction:
    name, role = "kernel-lower-bound", "hard-instance"
    spec = _experiment(
        name,
        role,
        target={"kind": "kernel_hard_instance", "alphas": [1, 0.5]},
        learners=[{"kind": "joint"} | SMALL_RECIPE, POLYNOMIAL_4, POLYNOMIAL_8, RBF],
        n=2000,
        dim=16,
        seeds=3,
    )
    kernels = ("kernel_ridge polynomial degree 4", "kernel_ridge polynomial degree 8", "kernel_ridge rbf")
    return Reproduction(
        name=name,
        shows="On sparse directions of width 1 a network with three levels is exact from 2000 samples, while kernels "
        "have nothing of the highest level: they would need a feature for each of C(16, 4) supports and more.",
        source=f"{PAPER}, lower bounds for kernels and feature maps",
        experiments={role: spec},
        expectations=(
            EVERY_RUN,
            Expectation("nMSE of joint", None, 1e-4, median_of(role, "joint", nmse)),
            Expectation("nMSE of the best kernel", 0.3, None, least_of(role, kernels, nmse)),
            Expectation(
                "variance of level 3 that the best kernel explains",
                None,
                0.2,
                greatest_of(role, kernels, variance_explained(3)),
            ),
        ),
        figure="comparison",
        of=role,
    )


FOUR_LEVELS: dict[str, Any] = {
    "target": {
        "kind": "hierarchical_quadratic", "widths": [3, 2, 1], "alphas": [1, 0.2, 0.05],
        "connections": {2: [1], 3: [2, 0], 4: [3, 1]},
    },
    "n": 20_000,
    "dim": 12,
    "seeds": 3,
}  # fmt: skip
FOUR_LEVEL_RECIPE: dict[str, Any] = {"width": 30, "batch_size": 256, "steps_per_stage": 4000}


def _correction_window() -> Reproduction:
    name, role = "correction-window", "windows"
    spec = _experiment(
        name,
        role,
        learners=[
            {"kind": "correction_window", "window": window} | FOUR_LEVEL_RECIPE for window in (0, 1, None)
        ],
        **FOUR_LEVELS,
    )
    none, one, every = (f"correction_window {window}" for window in (0, 1, "unlimited"))
    return Reproduction(
        name=name,
        shows="How deep correction must go: each further level that may be corrected lowers the error of a four-level "
        "network; correcting one level below the newest is not enough.",
        source=f"{PAPER}, the experiment on the depth of correction (Figs 10, 14), on a target of known features",
        experiments={role: spec},
        expectations=(
            EVERY_RUN,
            Expectation("nMSE, no correction over one level", 3, None, ratio(role, none, one, nmse)),
            Expectation("nMSE, one level over all levels", 1.5, None, ratio(role, one, every, nmse)),
            Expectation("nMSE, no correction over all levels", 5, None, ratio(role, none, every, nmse)),
            Expectation(
                "level-2 feature error, one level over all levels",
                1.5,
                None,
                ratio(role, one, every, feature_error(2)),
            ),
        ),
        figure="feature-error",
        of=role,
    )


def _eight_steps() -> Reproduction:
    name, role = "eight-steps", "stages"
    spec = _experiment(name, role, learners=[{"kind": "algorithm_1"} | FOUR_LEVEL_RECIPE], **FOUR_LEVELS)

    def after(stage: str, level: int, until: str) -> Measure:
        return improvement(role, "algorithm_1", at_end_of(stage, level), at_end_of(until, level))

    def within(stage: str, level: int) -> Measure:
        return improvement(role, "algorithm_1", at_start_of(stage, level), at_end_of(stage, level))

    two, three, four = "level 2 distilled", "level 3 distilled", "level 4 distilled"
    return Reproduction(
        name=name,
        shows="The eight steps of a four-level network: level 2 begins (1), level 3 begins on it (2), corrects it (3) "
        "and improves (4); level 4 begins (5), corrects level 2 (6) and level 3 (7), and improves (8).",
        source=f"{PAPER}, the eight-step schedule of the introduction",
        experiments={role: spec},
        expectations=(
            EVERY_RUN,
            Expectation("level-2 error, before level 3 over after (step 3)", 3, None, after(two, 2, three)),
            Expectation(
                "level-3 error, from the start to the end of its stage (step 4)", 2, None, within(three, 3)
            ),
            Expectation(
                "level-2 error, before level 4 over after (step 6)", 1.5, None, after(three, 2, four)
            ),
            Expectation(
                "level-3 error, before level 4 over after (step 7)", 1.5, None, after(three, 3, four)
            ),
            Expectation(
                "level-4 error, from the start to the end of its stage (step 8)", 2, None, within(four, 4)
            ),
        ),
        figure="stages",
        of=role,
    )


REPRODUCTIONS: dict[str, Reproduction] = {
    preset.name: preset
    for preset in (
        _algorithm_1(),
        _alpha_squared(),
        _matched_control(),
        _sample_complexity(),
        _sample_complexity_of_learners(),
        _agnostic_floor(),
        _classification(),
        _kernel_lower_bound(),
        _correction_window(),
        _eight_steps(),
        *BASELINE_PRESETS,
    )
}
"""By name, in the order of the documentation."""
