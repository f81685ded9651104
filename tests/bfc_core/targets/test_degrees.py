"""Parts by degree: against a polynomial known by hand, Mehler's formula, and predictors of known coefficients."""

import math

import pytest
import torch

from bfc_core.evaluation import Problem, measure, pose
from bfc_core.inputs import draw_inputs
from bfc_core.metrics.regression import degree_coefficients
from bfc_core.run import execute_pack
from bfc_core.seeding import generator_for
from bfc_core.specs import (
    AnyTarget,
    CubeInputs,
    GaussianInputs,
    HierarchicalQuadratic,
    RunSpec,
    Staircase,
    WorkedExample1,
    WorkedExample2,
)
from bfc_core.targets.build import build_target
from bfc_core.targets.degrees import degree_parts
from bfc_core.truth import FIRST_ROWS

GAUSSIAN = GaussianInputs(kind="gaussian")
TWO_LEVELS = HierarchicalQuadratic(kind="hierarchical_quadratic", widths=(3, 2), alphas=(1, 0.3))
THREE_LEVELS = HierarchicalQuadratic(
    kind="hierarchical_quadratic",
    widths=(2, 1, 1),
    alphas=(1, 0.4, 0.2),
    connections={2: (1,), 3: (2, 0), 4: (3, 1)},
)


def test_the_quadratic_of_example_1_is_the_one_that_was_worked_by_hand() -> None:
    x = draw_inputs(GAUSSIAN, 200, 5, 3, "test")
    target = build_target(WorkedExample1(kind="worked_example_1"), GAUSSIAN, 5, seed=0)
    parts = degree_parts(target, GAUSSIAN, x)
    x1, x2, x3 = x[:, 0], x[:, 1], x[:, 2]
    torch.testing.assert_close(
        parts[0] + parts[1] + parts[2], 2 * x1**2 + 4.8 * x2**2 + 0.1 * x3**2 + 0.6 * x3 - 1.9
    )


def test_x_to_the_eighth_has_210_of_its_fourth_hermite_polynomial() -> None:
    x = draw_inputs(GAUSSIAN, 100, 4, 5, "test")
    target = build_target(WorkedExample2(kind="worked_example_2", alpha=1.0), GAUSSIAN, 4, seed=0)
    plain = build_target(WorkedExample2(kind="worked_example_2", alpha=0.0), GAUSSIAN, 4, seed=0)
    he4 = x[:, :2] ** 4 - 6 * x[:, :2] ** 2 + 3
    fourth = degree_parts(target, GAUSSIAN, x)[4]
    torch.testing.assert_close(degree_parts(plain, GAUSSIAN, x)[4], he4.sum(1))
    torch.testing.assert_close(fourth, 211 * he4.sum(1))


@pytest.mark.parametrize("spec", [TWO_LEVELS, THREE_LEVELS], ids=["degree 8", "degree 16"])
def test_parts_sum_to_the_target_and_fade_as_mehler_says(spec: HierarchicalQuadratic) -> None:
    x = draw_inputs(GAUSSIAN, 3, 6, 2, "test")
    target = build_target(spec, GAUSSIAN, 6, seed=2)
    parts = degree_parts(target, GAUSSIAN, x)
    assert set(parts) == set(range(2 ** (len(spec.widths) + 1) + 1))
    torch.testing.assert_close(torch.stack(list(parts.values())).sum(0), target(x))
    rho = 0.9
    z = torch.randn(200_000, 6, generator=generator_for(1, "inputs"), dtype=torch.float64)
    for row in range(len(x)):
        values = target(rho * x[row] + math.sqrt(1 - rho**2) * z)
        expected = sum(rho**k * float(part[row]) for k, part in parts.items())
        assert float(values.mean()) == pytest.approx(expected, abs=5 * float(values.std()) / len(z) ** 0.5)


class Known:
    """Predicts Σ c_k f_k on the rows that it was made for, and the same over x₀'s column in classification."""

    def __init__(self, parts: dict[int, torch.Tensor], coefficients: dict[int, float]) -> None:
        self.value = torch.stack([coefficients.get(k, 0.0) * part for k, part in parts.items()]).sum(0)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.value[: len(x)]

    def features(self, x: torch.Tensor) -> dict[int, torch.Tensor]:  # noqa: ARG002 - the protocol has it
        return {}

    def forms(self) -> dict[int, torch.Tensor]:
        return {}


def problem_of(target: AnyTarget, dim: int = 6, inputs: object = GAUSSIAN) -> Problem:
    return pose(
        RunSpec.model_validate(
            {
                "target": target.model_dump(),
                "inputs": inputs,
                "learner": {"kind": "linear"},
                "n": 32,
                "dim": dim,
                "seed": 5,
                "budget": {"test_samples": FIRST_ROWS},
            }
        )
    )


@pytest.mark.parametrize("target", [TWO_LEVELS, WorkedExample1(kind="worked_example_1")])
def test_a_predictor_of_known_coefficients_is_read_as_such(target: AnyTarget) -> None:
    problem = problem_of(target)
    known = {1: -0.5, 2: 0.9, 3: 0.2, 4: 0.7, 5: 0.1, 6: 0.0, 8: 1.2}
    metrics = measure(Known(problem.degree_parts, known), problem)
    assert set(metrics.degree_coefficient) >= {1, 2, 3, 4}
    for degree, beta in metrics.degree_coefficient.items():
        assert beta == pytest.approx(known[degree], abs=1e-7)
        assert metrics.degree_variance_explained[degree] == pytest.approx(
            1 - (1 - known[degree]) ** 2, abs=1e-6
        )


def test_on_the_cube_degrees_are_those_of_parities() -> None:
    problem = problem_of(Staircase(kind="staircase"), inputs=CubeInputs(kind="cube"))
    metrics = measure(Known(problem.degree_parts, {1: 1.0, 2: 0.5}), problem)
    assert metrics.degree_coefficient == pytest.approx({1: 1.0, 2: 0.5, 3: 0.0}, abs=1e-12)


@pytest.mark.parametrize(
    ("changes", "inputs"),
    [
        ({}, {"kind": "correlated_gaussian"}),
        ({"null_twin": "random_polynomial"}, {"kind": "gaussian"}),
        ({"widths": (3, 2, 2, 1), "alphas": (1, 0.2, 0.1, 0.05)}, {"kind": "gaussian"}),
    ],
    ids=["other law", "random twin", "degree 32"],
)
def test_what_is_not_defined_is_absent(changes: dict[str, object], inputs: dict[str, object]) -> None:
    problem = problem_of(TWO_LEVELS.model_copy(update=changes), inputs=inputs)
    assert problem.degree_parts == {}
    assert degree_coefficients(problem.test_y, problem.degree_parts) == {}


@pytest.mark.parametrize(
    "target",
    [
        {"task": "regression"},
        {"task": "classification"},
        {"misspecification": 0.2},
        {"null_twin": "alpha_zero"},
    ],
    ids=["plain", "classification", "misspecified", "no level 3"],
)
def test_a_trained_network_reports_its_degrees(target: dict[str, object]) -> None:
    spec = RunSpec.model_validate(
        {
            "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.3]} | target,
            "learner": {"kind": "algorithm_1", "width": 8, "batch_size": 64, "steps_per_stage": 400},
            "n": 1500,
            "dim": 6,
            "seed": 3,
            "budget": {"test_samples": 1200},
        }
    )
    (report,) = execute_pack([spec])
    assert report.metrics is not None
    found = report.metrics.degree_coefficient
    assert set(found) == ({2, 4} if "null_twin" in target else {1, 2, 3, 4, 5, 6, 8})
    if target.get("task") != "classification":
        assert found[2] == pytest.approx(1, abs=0.1)
        assert found[4] == pytest.approx(1, abs=0.1)
