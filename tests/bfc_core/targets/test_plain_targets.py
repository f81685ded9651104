"""Targets whose levels are degrees: formulas, normalisation, orthogonality, and what is refused on them."""

import math
from typing import get_args

import pytest
import torch
from pydantic import ValidationError

from bfc_core.inputs import draw_inputs
from bfc_core.run import execute_pack
from bfc_core.specs import (
    CubeInputs,
    ExperimentSpec,
    GaussianInputs,
    KernelRidge,
    Outcome,
    RunSpec,
    Staircase,
)
from bfc_core.specs.plain_targets import AnyPlainTarget
from bfc_core.targets.base import Target
from bfc_core.targets.build import build_target
from bfc_core.targets.plain import PlainFunction
from bfc_core.theory.sheets import sheet_of, theory_exponent

GAUSSIAN, CUBE = GaussianInputs(kind="gaussian"), CubeInputs(kind="cube")
DIM = 12
BODIES: list[dict[str, object]] = [
    {"kind": "staircase"},
    {"kind": "multi_index", "rank": 2},
    {"kind": "multi_index", "link": "relu", "rank": 3},
    {"kind": "hierarchical_polynomial"},
    {"kind": "harmonic", "degree": 3},
    {"kind": "harmonic", "degree": 4, "form": "parity"},
    {"kind": "tabular_rfm"},
    {"kind": "stacked_quadratic"},
]
each = pytest.mark.parametrize("body", BODIES, ids=lambda body: "-".join(map(str, body.values())))


def run(body: dict[str, object], learner: dict[str, object] | None = None, **fields: object) -> RunSpec:
    values = {"target": body, "learner": learner or {"kind": "linear"}, "n": 64, "dim": DIM, "seed": 3}
    return RunSpec.model_validate(values | {"budget": {"test_samples": 100}} | fields)


def target(body: dict[str, object], dim: int = DIM, seed: int = 3) -> Target:
    return build_target(run(body).target, GAUSSIAN, dim, seed)


def test_every_kind_is_tried_here() -> None:
    kinds = {get_args(member.model_fields["kind"].annotation)[0] for member in get_args(AnyPlainTarget)}
    assert kinds == {body["kind"] for body in BODIES}


@each
def test_a_target_is_the_sum_of_its_parts_and_the_same_for_one_seed(body: dict[str, object]) -> None:
    x = draw_inputs(GAUSSIAN, 50, DIM, 1, "test")
    one = target(body)
    torch.testing.assert_close(torch.stack(list(one.parts(x).values())).sum(0), one(x))
    assert torch.equal(one(x), target(body)(x))
    assert all(len(feature) == 50 for feature in one.features(x).values())


@each
def test_a_target_is_learned_from_through_the_door(body: dict[str, object]) -> None:
    (report,) = execute_pack([run(body)])
    assert report.outcome is Outcome.SUCCEEDED
    assert report.metrics is not None
    assert report.metrics.nmse is not None


@pytest.mark.parametrize(
    ("body", "variance"),
    [
        ({"kind": "multi_index", "rank": 3}, 1.0),
        ({"kind": "multi_index", "link": "relu"}, 0.5 - 1 / (2 * math.pi)),
        ({"kind": "hierarchical_polynomial", "coefficients": [1.0]}, 1.0),
        ({"kind": "harmonic", "degree": 2}, 1.0),
        ({"kind": "tabular_rfm"}, 1 / 32),
        ({"kind": "stacked_quadratic", "alpha": 0}, 1.0),
    ],
)
def test_variances_are_as_said_and_means_vanish(body: dict[str, object], variance: float) -> None:
    values = target(body)(draw_inputs(GAUSSIAN, 200_000, DIM, 1, "test"))
    assert float(values.mean()) == pytest.approx(0, abs=0.02)
    assert float(values.var()) == pytest.approx(variance, rel=0.06)


def test_degrees_of_a_multi_index_target_are_orthogonal_and_equal() -> None:
    parts = target({"kind": "multi_index", "rank": 2}).parts(draw_inputs(GAUSSIAN, 200_000, DIM, 1, "test"))
    assert list(parts) == [1, 2, 4]
    values = torch.stack(list(parts.values()))
    torch.testing.assert_close(
        values @ values.mT / 200_000, torch.eye(3, dtype=torch.float64) / 3, rtol=0, atol=0.03
    )


def test_a_staircase_is_its_formula_by_degree() -> None:
    body = {"kind": "staircase", "sets": [[0, 1], [2], [3]], "coefficients": [2, -1, 0.5]}
    x = draw_inputs(CUBE, 30, DIM, 1, "test")
    parts = target(body).parts(x)
    assert torch.equal(parts[1], -x[:, 2] + 0.5 * x[:, 3])
    assert torch.equal(parts[2], 2 * x[:, 0] * x[:, 1])


@pytest.mark.parametrize(
    ("sets", "leap"),
    [
        ([[0], [0, 1], [0, 1, 2]], 1),
        ([[0, 1, 2], [0], [0, 1]], 1),
        ([[0], [0, 1, 2]], 2),
        ([[0, 1, 2]], 3),
        ([[0, 1], [2, 3]], 2),
        ([[k] for k in range(8)], None),
    ],
)
def test_the_leap_is_that_of_the_best_order(sets: list[list[int]], leap: int | None) -> None:
    assert Staircase.model_validate({"kind": "staircase", "sets": sets}).leap == leap


def test_the_quadratic_form_has_equal_eigenvalues_of_both_signs() -> None:
    inner = target({"kind": "hierarchical_polynomial"}).features
    x = torch.eye(DIM, dtype=torch.float64)
    pairs = torch.stack([inner((x[i] + x[j])[None])[1][0, 0] for i in range(DIM) for j in range(DIM)])
    diagonal = inner(x)[1][:, 0]
    matrix = (pairs.reshape(DIM, DIM) - diagonal[:, None] - diagonal[None]) / 2
    values = torch.linalg.eigvalsh(matrix)
    expected = torch.tensor([-1.0] * 6 + [1.0] * 6, dtype=torch.float64) / math.sqrt(2 * DIM)
    torch.testing.assert_close(values, expected)


def test_a_stacked_quadratic_is_its_formula() -> None:
    one = target({"kind": "stacked_quadratic", "alpha": 0.5})
    assert isinstance(one, PlainFunction)
    form = one.form_by_level[1]
    torch.testing.assert_close(form @ form, form)
    assert float(form.trace()) == pytest.approx(4)
    x = draw_inputs(GAUSSIAN, 200_000, DIM, 1, "test")
    parts, features = one.parts(x), one.features(x)
    torch.testing.assert_close(parts[1], (torch.einsum("ni,ij,nj->n", x, form, x) - 4) / math.sqrt(8))
    torch.testing.assert_close(parts[2], 0.5 * (features[2].square() - 1).sum(1) / math.sqrt(30))
    # b·z for orthonormal b: uncorrelated and of unit variance, with every z_i of fourth moment 15.
    torch.testing.assert_close(
        features[2].mT @ features[2] / len(x), torch.eye(2, dtype=torch.float64), rtol=0, atol=0.05
    )
    assert float(features[1].pow(4).mean()) == pytest.approx(15, rel=0.1)
    projector = features[1].mT @ features[2] / len(x)
    torch.testing.assert_close(projector.mT @ projector, torch.eye(2, dtype=torch.float64), rtol=0, atol=0.05)


def test_the_cube_is_the_cube_and_nested() -> None:
    x = draw_inputs(CUBE, 2000, 5, 1, "inputs")
    assert set(x.flatten().tolist()) == {-1.0, 1.0}
    assert torch.equal(x[:700], draw_inputs(CUBE, 700, 5, 1, "inputs"))
    torch.testing.assert_close(x.mT @ x / 2000, torch.eye(5, dtype=torch.float64), rtol=0, atol=0.08)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"learner": {"kind": "joint"}},
            "joint is told the levels of a hierarchy, and the target staircase has none",
        ),
        (
            {"target": {"kind": "hierarchical_quadratic"}, "inputs": {"kind": "cube"}},
            "levels of hierarchical_quadratic",
        ),
        ({"target": {"kind": "staircase", "sets": [[0, 0]]}}, "a coordinate twice"),
        ({"target": {"kind": "staircase", "sets": [[0, 1], [1, 0]]}}, "the same set twice"),
        ({"target": {"kind": "staircase", "coefficients": [1]}}, "1 values for 3 sets"),
        ({"target": {"kind": "multi_index", "degrees": [2, 2]}}, "a degree twice"),
        ({"target": {"kind": "hierarchical_polynomial", "coefficients": [0]}}, "must not be zero"),
        ({"target": {"kind": "stacked_quadratic", "widths": [2, 3]}}, "must not grow"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        run({"kind": "staircase"}, **fields)


@pytest.mark.parametrize(
    ("body", "least"),
    [
        ({"kind": "staircase", "sets": [[0, 7]]}, 8),
        ({"kind": "multi_index", "rank": 4}, 12),
        ({"kind": "tabular_rfm"}, 6),
        ({"kind": "stacked_quadratic", "widths": [7, 2]}, 7),
        ({"kind": "harmonic", "degree": 5, "form": "parity"}, 5),
    ],
)
def test_a_dim_too_small_is_refused_with_the_least_one(body: dict[str, object], least: int) -> None:
    fields = {"name": "small", "target": body, "learners": [{"kind": "linear"}], "n": 64, "seeds": 1}
    ExperimentSpec.model_validate(fields | {"dim": least})
    with pytest.raises(ValidationError, match=f"needs dim ≥ {least}"):
        ExperimentSpec.model_validate(fields | {"dim": least - 1})


def test_a_giant_step_shows_the_direction_that_it_found() -> None:
    body = {"kind": "multi_index", "link": "relu"}
    (report,) = execute_pack([run(body, {"kind": "one_giant_step", "width": 50}, n=2000)])
    assert report.metrics is not None
    assert report.metrics.feature_error_scale_free[1] < 0.1


@each
def test_a_sheet_says_what_kernels_need(body: dict[str, object]) -> None:
    spec = run(body).target
    sheet = sheet_of(spec)
    assert sheet is not None
    kernel = KernelRidge.model_validate({"kind": "kernel_ridge", "kernel": {"kind": "rbf"}})
    bound = theory_exponent(spec, kernel)
    assert bound is not None
    assert bound.exponent == sheet.degree
    assert theory_exponent(spec, run(body).learner) is None


def test_a_staircases_sheet_holds_its_leap() -> None:
    sheet = sheet_of(Staircase.model_validate({"kind": "staircase", "sets": [[0], [0, 1, 2, 3]]}))
    assert sheet is not None
    assert [bound.exponent for bound in sheet.bounds] == [4, 3]
