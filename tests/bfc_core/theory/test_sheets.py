"""Theory sheets against what the targets are: degrees, exponents, OPT."""

import pytest
import torch

from bfc_core.inputs import draw_inputs
from bfc_core.specs import AnyTarget, GaussianInputs, HierarchicalQuadratic, KernelHardInstance
from bfc_core.specs.targets import WorkedExample1, WorkedExample2
from bfc_core.targets.build import build_target
from bfc_core.targets.misspecification import MisspecifiedTarget
from bfc_core.theory.agnostic import noisy_error, optimum_of
from bfc_core.theory.sheets import sheet_of

GAUSSIAN = GaussianInputs(kind="gaussian")
TARGETS: list[AnyTarget] = [
    HierarchicalQuadratic(kind="hierarchical_quadratic"),
    HierarchicalQuadratic(kind="hierarchical_quadratic", widths=(2, 2, 1), alphas=(1.0, 0.3, 0.1)),
    WorkedExample1(kind="worked_example_1"),
    WorkedExample2(kind="worked_example_2"),
    KernelHardInstance(kind="kernel_hard_instance"),
]


@pytest.mark.parametrize("spec", TARGETS, ids=lambda spec: spec.kind)
def test_the_degree_is_that_of_the_target(spec: AnyTarget) -> None:
    sheet = sheet_of(spec)
    assert sheet is not None
    x = draw_inputs(GAUSSIAN, 2, 6, 1, "test")
    steps = torch.linspace(-4, 4, sheet.degree + 2, dtype=torch.float64)[:, None]
    differences = [build_target(spec, GAUSSIAN, 6, seed=3)(x[:1] + steps * x[1:])]
    for _ in range(sheet.degree + 1):
        differences.append(differences[-1].diff())
    size = float(differences[sheet.degree].abs().max())
    assert float(differences[sheet.degree + 1].abs().max()) < 1e-4 * size


def test_the_hard_instance_needs_a_feature_for_every_subset_of_its_sparsity() -> None:
    spec = KernelHardInstance(kind="kernel_hard_instance", alphas=(1.0, 0.5, 0.2))
    sheet = sheet_of(spec)
    assert sheet is not None
    (kernels,) = [bound for bound in sheet.bounds if bound.learners == "kernels and feature maps"]
    assert kernels.exponent == spec.sparsity == 8


def test_opt_is_what_the_target_itself_leaves() -> None:
    spec = HierarchicalQuadratic(kind="hierarchical_quadratic", misspecification=0.2, label_noise=0.3)
    target = build_target(spec, GAUSSIAN, 6, seed=3)
    assert isinstance(target, MisspecifiedTarget)
    x = draw_inputs(GAUSSIAN, 16_384, 6, 3, "normalisation")
    nmse = float(target.outside(x).square().mean() / target(x).var())
    assert noisy_error(nmse, spec) == pytest.approx(optimum_of(spec), rel=0.02)


def test_a_classification_has_no_opt_in_units_of_variance() -> None:
    with pytest.raises(ValueError, match="regression"):
        optimum_of(HierarchicalQuadratic(kind="hierarchical_quadratic", task="classification"))
