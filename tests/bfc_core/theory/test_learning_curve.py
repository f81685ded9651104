"""The learning curve against its published numbers, its limits, and kernel ridge itself."""

import math

import pytest
import torch

from bfc_core.kernels.ridge import solve_by_eigendecomposition
from bfc_core.theory.learning_curve import (
    degree_thresholds,
    effective_ridge,
    expected_mse,
    exponential_kernel_on_the_cube,
    interpolation_peaks,
    learned_degree,
)

POWER = {1: 1.0, 2: 1.0, 3: 1.0}


def staircase(x: torch.Tensor) -> torch.Tensor:
    return x[:, 0] + x[:, 0] * x[:, 1] + x[:, 0] * x[:, 1] * x[:, 2]


@pytest.mark.parametrize(("n", "mse"), [(128, 2.06), (256, 1.65), (512, 1.09)])
def test_the_curve_has_the_numbers_of_the_catalogue(n: int, mse: float) -> None:
    spectrum = exponential_kernel_on_the_cube(20)
    assert expected_mse(spectrum, POWER, n, 1e-3) == pytest.approx(mse, abs=0.01)


def test_the_spectrum_adds_up_to_the_kernel() -> None:
    spectrum = exponential_kernel_on_the_cube(12)
    assert sum(space.multiplicity for space in spectrum) == 2**12
    assert sum(s.multiplicity * s.eigenvalue for s in spectrum) == pytest.approx(math.e)


def test_kernel_ridge_follows_the_curve() -> None:
    dim, n, ridge = 20, 256, 1e-3
    generator = torch.Generator().manual_seed(0)
    errors = []
    for _ in range(10):
        x, fresh = (
            torch.randint(0, 2, (rows, dim), generator=generator).double() * 2 - 1 for rows in (n, 1000)
        )
        gram = (x @ x.mT / dim).exp()
        ridges = torch.tensor([ridge], dtype=torch.float64)
        weights = solve_by_eigendecomposition(gram, staircase(x)[:, None], ridges, intercept=False).weights[
            :, 0
        ]
        errors.append(float((((fresh @ x.mT / dim).exp() @ weights) - staircase(fresh)).square().mean()))
    theory = expected_mse(exponential_kernel_on_the_cube(dim), POWER, n, ridge)
    assert sum(errors) / len(errors) == pytest.approx(theory, rel=0.1)


def test_more_samples_and_less_noise_are_better_and_the_effective_ridge_solves_its_equation() -> None:
    spectrum = exponential_kernel_on_the_cube(15)
    curve = [expected_mse(spectrum, POWER, n, 0.1) for n in (100, 1000, 10_000)]
    assert curve == sorted(curve, reverse=True)
    assert expected_mse(spectrum, POWER, 100, 0.1, noise_variance=1.0) > curve[0] + 1
    kappa = effective_ridge(spectrum, 100, 0.1)
    used = sum(s.multiplicity * s.eigenvalue / (s.eigenvalue + kappa) for s in spectrum)
    assert used + 0.1 / kappa == pytest.approx(100)


def test_degrees_and_peaks() -> None:
    assert [learned_degree(n, 10) for n in (5, 10, 99, 100, 5000)] == [0, 1, 1, 2, 3]
    assert learned_degree(100, 1) == 0
    assert degree_thresholds(10, [1, 3]) == {1: 10, 3: 1000}
    assert interpolation_peaks(10, [1, 2, 3]) == {1: 10, 2: 50, 3: pytest.approx(1000 / 6)}


def test_what_the_curve_does_not_hold_for_is_refused() -> None:
    spectrum = exponential_kernel_on_the_cube(4)
    with pytest.raises(ValueError, match="positive ridge"):
        expected_mse(spectrum, POWER, 10, 0.0)
    with pytest.raises(ValueError, match=r"no degree \[9\]"):
        expected_mse(spectrum, {9: 1.0}, 10, 0.1)
