"""Feature error and level coefficients on cases with known answers."""

import pytest
import torch

from bfc_core.metrics.features import (
    alignment,
    feature_error,
    feature_error_scale_free,
    form_error,
    weight_cosine,
)
from bfc_core.metrics.regression import level_coefficients, normalised_mse
from bfc_core.seeding import generator_for


def gaussian(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator_for(5, "test"), dtype=torch.float64)


def test_a_rotated_feature_has_no_error() -> None:
    true = gaussian(500, 3)
    rotation = torch.linalg.qr(gaussian(3, 3)).Q
    assert feature_error(true @ rotation, true) < 1e-12
    assert feature_error(3 * true @ rotation, true) == pytest.approx(4)
    assert feature_error_scale_free(3 * true @ rotation, true) < 1e-12


def test_the_error_is_the_least_over_rotations() -> None:
    true, found = gaussian(200, 2), gaussian(200, 2)[:, [1, 0]] + 0.3 * gaussian(200, 2).square()
    angles = torch.linspace(0, 2 * torch.pi, 2000, dtype=torch.float64)
    errors = []
    for angle in angles:
        c, s = angle.cos(), angle.sin()
        for flip in (1.0, -1.0):
            rotation = torch.stack([torch.stack([c, -s]), torch.stack([flip * s, flip * c])])
            errors.append(float((true - found @ rotation.mT).square().sum() / true.square().sum()))
    assert feature_error(found, true) == pytest.approx(min(errors), rel=1e-4)


def test_a_missing_feature_costs_its_share() -> None:
    true = gaussian(1000, 2)
    share = float(true[:, 1].square().sum() / true.square().sum())
    assert feature_error(true[:, :1], true) == pytest.approx(share, rel=0.02)
    assert feature_error_scale_free(torch.zeros(1000, 2), true) == 1.0


def test_a_forms_error_is_the_least_over_its_scale() -> None:
    true = torch.diag(torch.tensor([1.0, 1.0, 0.0]))
    assert form_error(-7 * true, true) < 1e-15
    # A right angle's half: ⟨M̂, M*⟩ = 1, norms 1 and √2.
    assert form_error(torch.diag(torch.tensor([1.0, 0.0, 0.0])), true) == pytest.approx(0.5**0.5)
    assert form_error(torch.diag(torch.tensor([0.0, 0.0, 2.0])), true) == pytest.approx(1)
    assert form_error(torch.zeros(3, 3), true) == 1
    found, wanted = gaussian(4, 4), gaussian(4, 4)
    scales = torch.linspace(-20, 20, 40_001, dtype=torch.float64)
    errors = (found - scales[:, None, None] * wanted).flatten(1).norm(dim=1) / (scales.abs() * wanted.norm())
    assert form_error(found, wanted) == pytest.approx(float(errors.min()), rel=1e-4)
    # Small angles keep their digits.
    assert form_error(true + 1e-12 * gaussian(3, 3), true.double()) < 1e-11


def test_coefficients_say_which_level_was_learnt() -> None:
    x = gaussian(4000, 2)
    parts = {2: x[:, 0].square(), 3: 0.1 * (x[:, 0].square() + x[:, 1]).square(), 4: 0 * x[:, 0]}
    target = parts[2] + parts[3]
    assert level_coefficients(target, parts) == pytest.approx({2: 1.0, 3: 1.0})
    half = level_coefficients(parts[2], parts)
    assert half[3] == pytest.approx(0, abs=1e-12)
    assert normalised_mse(target, target) == 0
    assert normalised_mse(target.mean().expand(4000), target) == pytest.approx(1)


def test_alignment_is_blind_to_linear_maps_and_zero_for_the_unrelated() -> None:
    true = gaussian(4000, 2)
    assert alignment(true @ gaussian(2, 2), true) == pytest.approx(1)
    assert alignment(torch.cat([true[:, :1], true[:, 1:].square()], 1), true) == pytest.approx(0.5, abs=0.01)
    assert alignment(torch.zeros(4000, 2), true) == 0


def test_weight_cosine_is_the_mean_over_neurons_that_have_weights() -> None:
    before = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    assert weight_cosine(before, torch.tensor([[3.0, 0.0], [1.0, 0.0], [1.0, 1.0]])) == pytest.approx(0.5)
    assert weight_cosine(before, before) == pytest.approx(1)
