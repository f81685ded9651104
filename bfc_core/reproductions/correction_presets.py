"""Presets of backward feature correction: what training a level does to the levels below it."""

from typing import Any

from bfc_core.reproductions.ingredients import (
    CATALOGUE,
    EVERY_RUN,
    PAPER,
    POLYNOMIAL_4,
    RBF,
    SMALL_RECIPE,
    experiment,
)
from bfc_core.reproductions.measures import (
    alpha_slope,
    at_end_of,
    at_start_of,
    at_the_end,
    feature_error,
    form_error,
    improvement,
    least_of,
    median_of,
    nmse,
    ratio,
)
from bfc_core.reproductions.preset import Expectation, Measure, Reproduction

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


def _algorithm_1() -> Reproduction:
    name, role = "bfc-algorithm-1", "comparison"
    learners = [
        {"kind": "algorithm_1"}, {"kind": "layerwise"}, POLYNOMIAL_4, RBF, {"kind": "recursive_feature_machine"},
    ]  # fmt: skip
    outside = ("kernel_ridge polynomial degree 4", "kernel_ridge rbf", "recursive_feature_machine")
    spec = experiment(
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
    spec = experiment(
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
        role: experiment(
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


def _two_layers() -> Reproduction:
    """The catalogue's ``bfc-matched-control`` as written; that name went to the preset on the paper's own network."""
    name = "matched-control-two-layers"
    roles = {"alpha-0.5": 0.5, "alpha-0": 0.0}
    experiments = {
        role: experiment(
            name,
            role,
            target={"kind": "stacked_quadratic", "widths": [4, 2], "alpha": alpha},
            learners=[{"kind": "quadratic_network", "second": second} for second in ("joint", "again")],
            n=500,
            dim=20,
            # One seed in eight has a gain below 2.5: docs/records/2026-11-28-matched-control-two-layers.
            seeds=11,
        )
        for role, alpha in roles.items()
    }
    joint, again = ("quadratic_network joint", "quadratic_network again")

    def gain(role: str) -> Measure:
        return ratio(role, again, joint, form_error(1))

    return Reproduction(
        name=name,
        shows="Two quadratic layers, from one checkpoint: training both takes most of the error out of the form of "
        "level 1, the same number of further steps on the lower layer alone does not, and with nothing above level 1 "
        "the two are alike.",
        source=f"figures of {CATALOGUE}: .213 again, .040 joint; gains 5.3 6.0 3.8 4.0 2.6",
        experiments=experiments,
        expectations=(
            EVERY_RUN,
            Expectation(
                "form error of level 1, the lower layer again (expected: .213)",
                0.15,
                0.3,
                median_of("alpha-0.5", again, form_error(1)),
            ),
            Expectation(
                "form error of level 1, both layers (expected: .040)",
                0.02,
                0.12,
                median_of("alpha-0.5", joint, form_error(1)),
            ),
            Expectation("backward gain (expected: 2.6 to 6.0)", 2.5, 8, gain("alpha-0.5")),
            Expectation("backward gain at α = 0", 0.75, 1.33, gain("alpha-0")),
        ),
        figure="comparison",
        of="alpha-0.5",
    )


def _correction_window() -> Reproduction:
    name, role = "correction-window", "windows"
    spec = experiment(
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
    spec = experiment(name, role, learners=[{"kind": "algorithm_1"} | FOUR_LEVEL_RECIPE], **FOUR_LEVELS)

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


CORRECTION_PRESETS = (
    _algorithm_1(),
    _alpha_squared(),
    _matched_control(),
    _two_layers(),
    _correction_window(),
    _eight_steps(),
)
