"""Kernels against values from 40-digit arithmetic; tests/reference/kernel_reference.json says how they were made."""

import json
from math import sqrt
from pathlib import Path

import pytest
import torch

from bfc_core.kernels.base import Kernel
from bfc_core.kernels.laplace import LaplaceKernel
from bfc_core.kernels.network import NetworkKernel
from bfc_core.kernels.polynomial import PolynomialKernel
from bfc_core.kernels.rbf import RbfKernel
from bfc_core.kernels.ridge import solve_by_eigendecomposition

REFERENCE = json.loads((Path(__file__).parents[2] / "reference" / "kernel_reference.json").read_text())
DIM = 5
ACTIVATIONS = {"relu": "relu", "hermite2": "centred_quadratic", "erf": "erf", "quad": "quadratic"}
STANDARD_DEVIATIONS = {"sqrt(2)": sqrt(2)}


def numbers(rows: list) -> torch.Tensor:
    return torch.tensor([[float(value) for value in row] for row in rows], dtype=torch.float64)


def inputs(first_row: int, rows: int) -> torch.Tensor:
    i = torch.arange(first_row, first_row + rows, dtype=torch.float64)[:, None]
    j = torch.arange(DIM, dtype=torch.float64)
    return torch.sin(1 + i + 2.3 * j + 0.5 * i * j)


def on_the_sphere(x: torch.Tensor) -> torch.Tensor:
    return x * sqrt(DIM) / x.norm(dim=1, keepdim=True)


X, Z = inputs(0, 4), inputs(10, 3)
POINTS = {"X": X, "Z": Z, "Xu": on_the_sphere(X), "Zu": on_the_sphere(Z)}
NUDGE = torch.zeros(DIM, dtype=torch.float64)
NUDGE[0] = 1e-8
EDGE = torch.stack([X[0], -X[0], 2 * X[0], X[0] + NUDGE])
SIMPLE: dict[str, Kernel] = {
    "poly4 (1+x.z/d)^4": PolynomialKernel(4, 1.0),
    "poly2 (x.z)^2": PolynomialKernel(2, 0.0, "sum"),
    "rbf exp(-|x-z|^2/(2 s^2)), s=1.5": RbfKernel(1.5 / sqrt(DIM)),
    "laplace exp(-|x-z|_2/s), s=1.5": LaplaceKernel(1.5),
}


def gram(kernel: Kernel, a: str, b: str) -> torch.Tensor:
    return kernel.gram(POINTS[a]) if a == b else kernel.gram(POINTS[a], POINTS[b])


def test_points_are_the_ones_the_reference_used() -> None:
    torch.testing.assert_close(X, numbers(REFERENCE["X"]), rtol=1e-12, atol=0)
    torch.testing.assert_close(Z, numbers(REFERENCE["Z"]), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "case", REFERENCE["nngp_ntk"], ids=lambda case: f"{case['case']}-{case['depth']}-{case['A']}{case['B']}"
)
@pytest.mark.parametrize("name", ["nngp", "ntk"])
def test_network_kernels_have_their_reference_values(case: dict, name: str) -> None:
    weight, bias = (STANDARD_DEVIATIONS.get(case[key]) or float(case[key]) for key in ("W_std", "b_std"))
    kernel = NetworkKernel(name == "ntk", case["depth"], ACTIVATIONS[case["activation"]], weight**2, bias**2)
    torch.testing.assert_close(
        gram(kernel, case["A"], case["B"]), numbers(case[name]), rtol=1e-10, atol=1e-14
    )


@pytest.mark.parametrize("name", REFERENCE["simple_kernels"])
def test_simple_kernels_have_their_reference_values(name: str) -> None:
    reference = REFERENCE["simple_kernels"][name]
    torch.testing.assert_close(gram(SIMPLE[name], "X", "Z"), numbers(reference["X,Z"]), rtol=1e-10, atol=0)
    for values in (SIMPLE[name].gram(EDGE), SIMPLE[name].gram(EDGE, EDGE)):
        torch.testing.assert_close(values, numbers(reference["edge,edge"]), rtol=0, atol=1e-7)


@pytest.mark.parametrize("tangent", [False, True])
def test_relu_kernels_survive_parallel_and_opposite_points(*, tangent: bool) -> None:
    kernel = NetworkKernel(tangent, 1, "relu", 2.0, 0.0)
    values = kernel.gram(EDGE, EDGE)
    same = kernel.diagonal(X[:1])[0]
    expected = torch.stack([same, torch.zeros_like(same), 2 * same, same])
    torch.testing.assert_close(values[0], expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "kernel", "ridge", "rtol"),
    [
        ("poly4 lam=0.1", PolynomialKernel(4, 1.0), 0.1, 1e-9),
        ("rbf lam=0.001", RbfKernel(1.5 / sqrt(DIM)), 0.001, 1e-7),
    ],
)
def test_ridge_coefficients_have_their_reference_values(
    name: str, kernel: Kernel, ridge: float, rtol: float
) -> None:
    x = inputs(0, 12)
    y = torch.cos(torch.arange(12, dtype=torch.float64)) + 0.5 * x[:, 0] * x[:, 1]
    targets = torch.stack([y, x[:, 2]], dim=1)
    reference = REFERENCE["krr"][name]
    expected = numbers([reference[key]["alpha"] for key in ("y", "y2")]).mT
    # The reference fits no intercept: alpha is linear in the targets, so the mean's part is added back.
    with_ones = torch.cat([targets - targets.mean(0), torch.ones(12, 1, dtype=torch.float64)], dim=1)
    ridges = torch.tensor([ridge], dtype=torch.float64)
    centred = solve_by_eigendecomposition(kernel.gram(x), targets, ridges).weights
    ones = torch.linalg.solve(kernel.gram(x) + ridge * torch.eye(12, dtype=torch.float64), with_ones[:, -1:])
    torch.testing.assert_close(centred + ones * targets.mean(0), expected, rtol=rtol, atol=1e-9)
    plain = solve_by_eigendecomposition(kernel.gram(x), targets, ridges, intercept=False)
    torch.testing.assert_close(plain.weights, expected, rtol=rtol, atol=1e-9)
    predicted = kernel.gram(Z, x) @ plain.weights
    torch.testing.assert_close(
        predicted, numbers([reference[key]["pred_Z"] for key in ("y", "y2")]).mT, rtol=rtol, atol=1e-9
    )
    for found, error in ((plain.loo_mse, "loo_mse"), (plain.gcv, "gcv")):
        values = torch.tensor([float(reference[key][error]) for key in ("y", "y2")], dtype=torch.float64)
        torch.testing.assert_close(found[0], values, rtol=rtol, atol=0)
