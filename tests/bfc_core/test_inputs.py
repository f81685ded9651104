"""Input laws: their moments, their condition number, and their independence of n and purpose."""

import pytest
import torch
from pydantic import ValidationError

from bfc_core.inputs import covariances_of, draw_inputs, matrix_root, random_correlation
from bfc_core.specs import (
    AnyInputs,
    CorrelatedGaussianInputs,
    ExperimentSpec,
    GaussianInputs,
    GaussianMixtureInputs,
)

GAUSSIAN = GaussianInputs(kind="gaussian")
CORRELATED = CorrelatedGaussianInputs(kind="correlated_gaussian", condition_number=9)
MIXTURE = GaussianMixtureInputs(kind="gaussian_mixture", components=3, condition_number=9)
LAWS: list[AnyInputs] = [GAUSSIAN, CORRELATED, MIXTURE]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.kind)
def test_every_coordinate_has_mean_zero_and_mean_square_one(law: AnyInputs) -> None:
    # Level 1 of every target subtracts exactly this mean square.
    x = draw_inputs(law, 40_000, 8, seed=3, purpose="test")
    torch.testing.assert_close(x.mean(0), torch.zeros(8, dtype=x.dtype), atol=0.03, rtol=0)
    torch.testing.assert_close(x.square().mean(0), torch.ones(8, dtype=x.dtype), atol=0.05, rtol=0)


@pytest.mark.parametrize("dim", [2, 3, 9, 30])
@pytest.mark.parametrize("condition_number", [1.0, 4.0, 100.0])
def test_a_random_correlation_has_unit_diagonal_and_its_condition_number(
    dim: int, condition_number: float
) -> None:
    matrix = random_correlation(dim, condition_number, torch.Generator().manual_seed(dim))
    values = torch.linalg.eigvalsh(matrix)
    assert torch.equal(matrix.diagonal(), torch.ones(dim, dtype=matrix.dtype))
    assert float(values[-1] / values[0]) == pytest.approx(condition_number, rel=1e-9)


def test_the_samples_have_the_covariance_of_the_law() -> None:
    (covariance,) = covariances_of(CORRELATED, 6, seed=5)
    x = draw_inputs(CORRELATED, 60_000, 6, seed=5, purpose="inputs")
    torch.testing.assert_close(x.mT @ x / len(x), covariance, atol=0.04, rtol=0)
    assert float((covariance - torch.eye(6)).abs().max()) > 0.1


def test_the_components_of_a_mixture_have_equal_row_norms_and_different_covariances() -> None:
    covariances = covariances_of(MIXTURE, 5, seed=2)
    norms = [torch.linalg.vector_norm(matrix_root(covariance), dim=1) for covariance in covariances]
    for norm in norms:
        torch.testing.assert_close(norm, torch.ones(5, dtype=torch.float64))
    assert float((covariances[0] - covariances[1]).abs().max()) > 0.1


def test_a_mixture_is_no_gaussian() -> None:
    # Under one Gaussian, E[(x_j x_k)²] = 1 + 2 E[x_j x_k]²; the mixture adds twice the variance of the
    # components' correlations.
    covariances = torch.stack(covariances_of(MIXTURE, 4, seed=2))
    j, k = divmod(int(covariances.var(0, unbiased=False).argmax()), 4)
    x = draw_inputs(MIXTURE, 200_000, 4, seed=2, purpose="test")
    product = x[:, j] * x[:, k]
    excess = float(product.square().mean() - 1 - 2 * product.mean().square())
    assert excess == pytest.approx(2 * float(covariances[:, j, k].var(unbiased=False)), rel=0.3)
    assert excess > 0.05


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.kind)
def test_fewer_samples_are_a_prefix_of_more(law: AnyInputs) -> None:
    many = draw_inputs(law, 2500, 5, 11, "inputs")
    assert torch.equal(draw_inputs(law, 1100, 5, 11, "inputs"), many[:1100])
    assert not torch.equal(draw_inputs(law, 1100, 5, 12, "inputs"), many[:1100])


def test_a_correlation_needs_two_coordinates() -> None:
    target = {"kind": "hierarchical_quadratic", "widths": [1, 1]}
    learner = {"kind": "kernel_ridge", "kernel": {"kind": "rbf"}}
    spec = {"name": "x", "target": target, "learners": [learner], "n": 20, "dim": 1}
    with pytest.raises(ValidationError, match="these inputs need dim ≥ 2"):
        ExperimentSpec.model_validate(spec | {"inputs": {"kind": "correlated_gaussian"}})
