"""Conditioning, classification, misspecification, null twins and the hard instance, against their definitions."""

import math
from itertools import pairwise

import pytest
import torch

from bfc_core.evaluation import pose
from bfc_core.inputs import draw_inputs
from bfc_core.run import execute_pack
from bfc_core.specs import (
    AnyTarget,
    CorrelatedGaussianInputs,
    GaussianInputs,
    HierarchicalQuadratic,
    KernelHardInstance,
    Outcome,
    RunSpec,
    WorkedExample1,
    WorkedExample2,
)
from bfc_core.targets.build import build_target
from bfc_core.targets.classification import ClassificationTarget
from bfc_core.targets.hierarchy import HierarchyTarget
from bfc_core.targets.misspecification import MisspecifiedTarget
from bfc_core.targets.null_twins import RandomPolynomialTwin

GAUSSIAN = GaussianInputs(kind="gaussian")
ROWS = draw_inputs(GAUSSIAN, 20_000, 8, 77, "test")


def quadratic(**fields: object) -> HierarchicalQuadratic:
    return HierarchicalQuadratic.model_validate({"kind": "hierarchical_quadratic"} | fields)


def run_spec(target: AnyTarget, learner: dict[str, object], **fields: object) -> RunSpec:
    values = {"target": target, "learner": learner, "n": 400, "dim": 6, "seed": 1}
    budget = {"test_samples": 2000}
    return RunSpec.model_validate(values | {"budget": budget} | fields)


def test_kappa_bounds_the_singular_values_up_to_one_scalar() -> None:
    target = build_target(quadratic(widths=[3, 2], kappa=2), GAUSSIAN, 8, seed=4)
    assert isinstance(target, HierarchyTarget)
    for (level, _), block in target.weights.items():
        values = torch.linalg.svdvals(block)
        # [1/κ, κ] holds values whose largest is κ² times the smallest, and in the middle of it 1.
        assert float(values[0] / values[-1]) == pytest.approx(4)
        if level == 2:
            assert float(values[1] ** 2) == pytest.approx(float(values[0] * values[2]))


def test_kappa_one_is_the_target_of_orthonormal_rows() -> None:
    plain = build_target(quadratic(), GAUSSIAN, 8, seed=4)
    assert torch.equal(plain(ROWS), build_target(quadratic(kappa=1), GAUSSIAN, 8, seed=4)(ROWS))


def test_classification_rescales_the_levels_and_keeps_their_structure() -> None:
    plain = build_target(quadratic(widths=[3, 2, 1], alphas=[1, 0.3, 0.1]), GAUSSIAN, 8, seed=5)
    spec = quadratic(widths=[3, 2, 1], alphas=[1, 0.3, 0.1], task="classification")
    target = build_target(spec, GAUSSIAN, 8, seed=5)
    assert isinstance(target, ClassificationTarget)
    rows = target.rows(ROWS, 5, "offset")
    assert target.dim == rows.shape[1] == 9
    scale = (target(rows) - rows[:, 0]) / plain(ROWS)
    torch.testing.assert_close(scale, scale[:1].expand(len(scale)))
    for level, feature in target.features(rows).items():
        torch.testing.assert_close(feature, plain.features(ROWS)[level] * scale[0].sqrt())


def test_the_margin_has_unit_variance_and_an_offset_that_balances_it() -> None:
    spec = run_spec(quadratic(task="classification"), {"kind": "kernel_ridge", "kernel": {"kind": "rbf"}})
    spec = spec.model_copy(update={"n": 20_000})
    problem = pose(spec)
    offset, labels = problem.x[:, 0], problem.y
    margin = problem.target(problem.x)
    # Quadratics of quadratics have heavy tails: a sample's variance is only roughly the normalised one.
    assert float((margin - offset).var()) == pytest.approx(1, rel=0.3)
    assert float(offset.var()) == pytest.approx(1, rel=0.05)
    assert float(margin.mean()) == pytest.approx(0, abs=0.05)
    assert torch.equal(labels, torch.where(margin >= 0, 1.0, -1.0).double())
    assert torch.equal(pose(spec.model_copy(update={"n": 500})).x, problem.x[:500])


def test_a_kernel_classifies_better_than_chance_and_reports_accuracy() -> None:
    target = quadratic(widths=[2], alphas=[1], task="classification")
    learner = {"kind": "kernel_ridge", "kernel": {"kind": "polynomial", "degree": 2}}
    (report,) = execute_pack([run_spec(target, learner)])
    assert report.outcome is Outcome.SUCCEEDED
    assert report.metrics is not None
    accuracy, error = report.metrics.accuracy, report.metrics.error
    assert accuracy is not None
    assert error is not None
    assert accuracy > 0.65
    assert error == pytest.approx(1 - accuracy)
    # The labels are ±1, so their prediction's squared error is four times the error rate.
    assert report.metrics.nmse == pytest.approx(4 * error, rel=0.1)


def test_the_sine_has_its_share_of_the_variance_and_nothing_for_polynomials() -> None:
    target = build_target(quadratic(misspecification=0.2), GAUSSIAN, 8, seed=6)
    assert isinstance(target, MisspecifiedTarget)
    x = draw_inputs(GAUSSIAN, 100_000, 8, 6, "normalisation")[:16_384]
    assert float(target.outside(x).var() / target.inside(x).var()) == pytest.approx(0.25)
    z = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    hermite = [torch.ones_like(z), z]
    for degree in range(1, 8):
        hermite.append(z * hermite[-1] - degree * hermite[-2])
    wave = torch.sin(target.frequency * z)
    within = sum(
        float((density * wave * h).sum()) ** 2 / math.factorial(degree) for degree, h in enumerate(hermite)
    )
    assert within / float((density * wave.square()).sum()) < 1e-6


def test_the_alpha_zero_twin_has_nothing_above_and_tells_the_learner_nothing_of_it() -> None:
    target = build_target(quadratic(alphas=[1, 0.2], null_twin="alpha_zero"), GAUSSIAN, 8, seed=7)
    plain = build_target(quadratic(alphas=[1, 0.2]), GAUSSIAN, 8, seed=7)
    torch.testing.assert_close(target(ROWS), plain.parts(ROWS)[2])


@pytest.mark.parametrize(
    "spec",
    [
        quadratic(alphas=[1, 0.2], null_twin="random_polynomial"),
        WorkedExample1(kind="worked_example_1", null_twin="random_polynomial"),
        WorkedExample2(kind="worked_example_2", null_twin="random_polynomial"),
        KernelHardInstance(kind="kernel_hard_instance", null_twin="random_polynomial"),
    ],
    ids=lambda spec: spec.kind,
)
def test_a_random_twin_keeps_the_lowest_level_and_matches_degree_mean_and_variance(spec: AnyTarget) -> None:
    twin = build_target(spec, GAUSSIAN, 8, seed=8)
    plain = build_target(spec.model_copy(update={"null_twin": None}), GAUSSIAN, 8, seed=8)
    assert isinstance(twin, RandomPolynomialTwin)
    torch.testing.assert_close(twin.parts(ROWS)[2], plain.parts(ROWS)[2])
    torch.testing.assert_close(twin.features(ROWS)[2], plain.features(ROWS)[2])
    assert set(twin.features(ROWS)) == {2}
    rows = draw_inputs(GAUSSIAN, 16_384, 8, 8, "normalisation")
    ours, theirs = twin.parts(rows)[3], plain.parts(rows)[3]
    torch.testing.assert_close(ours.mean(), theirs.mean())
    torch.testing.assert_close(ours.std(), theirs.std())
    # Along a line a polynomial of degree 8 has a constant eighth difference and no ninth.
    line = ROWS[:1] + torch.linspace(-1, 1, 10, dtype=torch.float64)[:, None] * ROWS[1:2]
    differences = [twin.parts(line)[3]]
    for _ in range(9):
        differences.append(differences[-1].diff())
    size = float(differences[8].abs().max())
    assert size > 1e-9
    assert float(differences[9].abs().max()) < 1e-4 * size


def test_the_hard_instance_holds_the_product_over_its_support() -> None:
    spec = KernelHardInstance(kind="kernel_hard_instance", alphas=(1.0, 0.5))
    target = build_target(spec, GAUSSIAN, 8, seed=9)
    assert isinstance(target, HierarchyTarget)
    for (_, source), block in target.weights.items():
        if source < 2:
            values = block[block != 0]
            assert len(values) == spec.sparsity == 4
            torch.testing.assert_close(values, values[:1].expand(4))
    support = target.weights[2, 1][0].nonzero()[:, 0]
    outside = [place for place in range(8) if place not in support.tolist()]
    # (s²)² of s = Σ_i w (x_i² − 1) is the only place where all four coordinates meet.
    weight = float(target.weights[2, 1].max() ** 4 * target.weights[3, 2][0, 0] ** 2)
    assert interaction(target, support.tolist()) == pytest.approx(0.5 * 24 * weight)
    assert interaction(target, [*support[:3].tolist(), outside[0]]) == pytest.approx(0, abs=1e-9)


def interaction(target: HierarchyTarget, places: list[int]) -> float:
    """Alternating sum of the highest part over the corners of a cube: what holds every one of its coordinates."""
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * len(places))
    x = torch.zeros(len(corners), target.dim, dtype=torch.float64)
    x[:, places] = corners
    signs = (-1.0) ** (len(places) - corners.sum(1))
    return float(signs @ target.parts(x)[target.hierarchy.top])


@pytest.mark.parametrize("twin", ["alpha_zero", "random_polynomial"])
def test_a_twin_trains_through_the_door(twin: str) -> None:
    learners: list[dict[str, object]] = [
        {"kind": kind, "steps_per_stage": 64, "width": 6, "batch_size": 64}
        for kind in ("algorithm_1", "layerwise")
    ]
    target = quadratic(widths=[2, 1], alphas=[1, 0.1], null_twin=twin)
    reports = execute_pack([run_spec(target, learner) for learner in learners])
    for report in reports:
        assert report.outcome is Outcome.SUCCEEDED
        assert report.metrics is not None
        assert 2 in report.metrics.feature_error


def test_learners_of_different_laws_share_no_network() -> None:
    laws = [GAUSSIAN, CorrelatedGaussianInputs(kind="correlated_gaussian")]
    learner = {"kind": "joint", "steps_per_stage": 32, "width": 4, "batch_size": 32}
    specs = [run_spec(quadratic(widths=[2, 1]), learner, inputs=law) for law in laws]
    with pytest.raises(ValueError, match="do not share"):
        execute_pack(specs)
    alone = [execute_pack([spec])[0].metrics for spec in specs]
    for one, other in pairwise(alone):
        assert one is not None
        assert other is not None
        assert one.nmse != other.nmse
