"""Targets against their formulas, their normalisation, and their independence of n."""

import pytest
import torch

from bfc_core.inputs import draw_inputs
from bfc_core.specs import GaussianInputs, HierarchicalQuadratic, WorkedExample1, WorkedExample2
from bfc_core.targets.build import build_target

GAUSSIAN = GaussianInputs(kind="gaussian")


def test_worked_example_1_is_its_formula() -> None:
    x = draw_inputs(GAUSSIAN, 50, 5, 3, "test")
    x1, x2, x3 = x[:, 0], x[:, 1], x[:, 2]
    inner = x1**2 + 2 * x2**2
    target = build_target(WorkedExample1(kind="worked_example_1"), GAUSSIAN, 5, seed=0)
    torch.testing.assert_close(target(x), inner + 0.1 * (inner + x3) ** 2)


def test_worked_example_2_is_its_formula() -> None:
    x = draw_inputs(GAUSSIAN, 50, 4, 3, "test")
    x1, x2, x3, x4 = x.mT
    target = build_target(WorkedExample2(kind="worked_example_2", alpha=0.02), GAUSSIAN, 4, seed=0)
    expected = x1**4 + x2**4 + 0.02 * ((x1**4 + x3) ** 2 + (x2**4 + x4) ** 2)
    torch.testing.assert_close(target(x), expected)


@pytest.mark.parametrize("widths", [(3, 2), (4, 3, 2)])
def test_levels_have_unit_scale_and_orthogonal_rows(widths: tuple[int, ...]) -> None:
    alphas = tuple(0.1**level for level in range(len(widths)))
    spec = HierarchicalQuadratic(kind="hierarchical_quadratic", widths=widths, alphas=alphas)
    target = build_target(spec, GAUSSIAN, 12, seed=4)
    x = draw_inputs(GAUSSIAN, 40_000, 12, 4, "test")
    for feature in target.features(x).values():
        assert float(feature.square().mean()) == pytest.approx(1, rel=0.25)
    for block in target.weights.values():
        form = block @ block.mT
        torch.testing.assert_close(form, form.diagonal().mean() * torch.eye(len(form), dtype=form.dtype))


def test_the_parts_sum_to_the_target_and_scale_with_alpha() -> None:
    x = draw_inputs(GAUSSIAN, 30, 6, 1, "test")
    build = lambda alpha: build_target(  # noqa: E731
        HierarchicalQuadratic(kind="hierarchical_quadratic", alphas=(1.0, alpha)), GAUSSIAN, 6, seed=2
    )
    torch.testing.assert_close(build(0.2).parts(x)[3], 2 * build(0.1).parts(x)[3])
    torch.testing.assert_close(build(0.0)(x), build(0.1).parts(x)[2])


def test_fewer_samples_are_a_prefix_of_more() -> None:
    many = draw_inputs(GAUSSIAN, 3000, 7, 11, "inputs")
    assert torch.equal(draw_inputs(GAUSSIAN, 1100, 7, 11, "inputs"), many[:1100])
    assert not torch.equal(draw_inputs(GAUSSIAN, 1100, 7, 11, "test"), many[:1100])
