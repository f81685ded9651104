"""Presets of sample complexity: n*(ε, δ) of every learner against dim."""

from typing import Any

from bfc_core.reproductions.ingredients import (
    CATALOGUE,
    EVERY_RUN,
    PAPER,
    POLYNOMIAL_2,
    POLYNOMIAL_4,
    RBF,
    experiment,
)
from bfc_core.reproductions.measures import censored_share, exponent
from bfc_core.reproductions.preset import Expectation, Reproduction


def _sample_complexity() -> Reproduction:
    name, eps, delta = "sample-complexity", 0.1, 0.4
    shared: dict[str, Any] = {
        "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
        "seeds": 5,
        "budget": {"test_samples": 4000},
    }
    network = experiment(
        name,
        "network",
        learners=[{"kind": "joint", "batch_size": 128, "steps_per_stage": 1000, "width": 16}],
        n=[12, 16, 24, 32, 48, 64, 96, 128, 192, 256],
        dim=[8, 12, 18, 27],
        **shared,
    )
    # The kernels' n* leaves every affordable grid at the dims where the network's begins to move.
    kernels = experiment(
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
    degrees = experiment(
        name,
        "degrees",
        learners=[POLYNOMIAL_4, RBF, of_degree_4],
        n=[16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512],
        dim=[3, 4, 5, 7],
        **shared,
    )
    beyond = experiment(
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


def _sample_complexity_of_stages() -> Reproduction:
    """Two errors: at the coarse one level 2 is enough, at the fine one it must have been corrected."""
    name, coarse, fine, delta = "sample-complexity-stages", 0.1, 1e-3, 0.4
    role = "network"
    small = {"batch_size": 128, "steps_per_stage": 500, "width": 16}
    spec = experiment(
        name,
        role,
        target={"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
        learners=[{"kind": "algorithm_1"} | small, {"kind": "layerwise"} | small],
        n=[12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384],
        dim=[8, 12, 18, 27],
        seeds=5,
        budget={"test_samples": 2000},
    )
    return Reproduction(
        name=name,
        shows="Algorithm 1 and layerwise training come to an error of 0.1 with samples that grow about linearly in "
        "dim; to 10⁻³ only Algorithm 1 comes, layerwise training with no n that is tried.",
        source=f"{PAPER}, Theorem 1; layerwise: §1, argued there; figures of {CATALOGUE}",
        experiments={role: spec},
        expectations=(
            EVERY_RUN,
            *(
                Expectation(
                    f"exponent of {learner}, ε = {eps:g}", 0.5, 1.8, exponent(role, learner, eps, delta)
                )
                for learner, eps in (("algorithm_1", coarse), ("layerwise", coarse), ("algorithm_1", fine))
            ),
            Expectation(
                f"share of dims at which n* of algorithm_1 is above 384, ε = {fine:g}",
                0,
                0.25,
                censored_share(role, "algorithm_1", fine, delta),
            ),
            Expectation(
                f"share of dims at which n* of layerwise is above 384, ε = {fine:g}",
                0.75,
                1,
                censored_share(role, "layerwise", fine, delta),
            ),
        ),
        figure="complexity",
        of=role,
        eps=fine,
        delta=delta,
    )


COMPLEXITY_PRESETS = (
    _sample_complexity(),
    _sample_complexity_of_learners(),
    _sample_complexity_of_stages(),
)
