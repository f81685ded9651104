"""Kernels on rows where rounding does its worst: equal, opposite, nearly parallel, zero, tiny and huge ones.

The values come from arithmetic with 800 digits: tests/reference/make_kernel_edges.py says how.
"""

import json
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter

from bfc_core.flops.counting import FlopCounter
from bfc_core.kernel_cost import BLOCK_ROWS
from bfc_core.kernels.arc_cosine import ArcCosineKernel
from bfc_core.kernels.base import Kernel
from bfc_core.kernels.build import build_kernel
from bfc_core.kernels.gram import gram_times
from bfc_core.kernels.laplace import LaplaceKernel
from bfc_core.kernels.network import NetworkKernel
from bfc_core.kernels.rbf import RbfKernel
from bfc_core.specs import KernelSpec

REFERENCE = json.loads((Path(__file__).parents[2] / "reference" / "kernel_edges.json").read_text())
NAMES = list(REFERENCE["rows"])
ROWS = torch.tensor(list(REFERENCE["rows"].values()), dtype=torch.float64)
PAIRS = [(NAMES.index(a), NAMES.index(b)) for a, b in REFERENCE["pairs"]]


def kernel_of(body: dict) -> Kernel:
    return build_kernel(TypeAdapter(KernelSpec).validate_python(body))


each = pytest.mark.parametrize(
    "case",
    REFERENCE["kernels"],
    ids=lambda case: "-".join(str(value).strip("[]") for value in case["kernel"].values()),
)


def normal(rows: int, columns: int = 3, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def assert_reference_values(case: dict, found: torch.Tensor) -> None:
    """Relative to the value and, where opposite terms cancel, to √(k(x, x) k(z, z))."""
    scale = kernel_of(case["kernel"]).diagonal(ROWS).sqrt()
    for (i, j), names, expected in zip(PAIRS, REFERENCE["pairs"], case["values"], strict=True):
        if expected is None:  # beyond the largest number
            continue
        for value in (float(found[i, j]), float(found[j, i])):
            least = 1e-13 * float(scale[i] * scale[j])
            assert value == pytest.approx(expected, rel=1e-12, abs=least if least < 1e300 else 0), names


@each
def test_the_symmetric_gram_has_the_reference_values(case: dict) -> None:
    assert_reference_values(case, kernel_of(case["kernel"]).gram(ROWS))


@each
def test_equal_rows_are_as_exact_off_the_diagonal_and_in_a_cross_gram(case: dict) -> None:
    kernel = kernel_of(case["kernel"])
    assert_reference_values(case, kernel.gram(ROWS, ROWS.clone()))
    repeated = ROWS.repeat_interleave(2, dim=0)
    assert_reference_values(case, kernel.gram(repeated)[::2, 1::2])


@each
def test_the_borders_of_blocks_do_not_show(case: dict) -> None:
    kernel = kernel_of(case["kernel"])
    filler = normal(BLOCK_ROWS - len(ROWS) // 2)
    gram = kernel.gram(torch.cat([filler, ROWS, filler[:5]]))
    inner = slice(len(filler), len(filler) + len(ROWS))
    assert_reference_values(case, gram[inner, inner])
    assert torch.equal(gram.nan_to_num(), gram.mT.nan_to_num())


@each
def test_tables_of_strided_rows_one_row_and_no_rows_are_the_same_numbers(case: dict) -> None:
    kernel = kernel_of(case["kernel"])
    wide = torch.stack([ROWS, -ROWS], dim=2).flatten(1)
    strided, columns_first = wide[:, ::2], ROWS.mT.contiguous().mT
    for rows in (strided, columns_first):
        assert not rows.is_contiguous()
        assert_reference_values(case, kernel.gram(rows))
    for i, j in PAIRS[:10]:
        assert_reference_values(
            {"kernel": case["kernel"], "values": []} | _one(case, i, j), _lone(kernel, i, j)
        )
    assert kernel.gram(ROWS[:1]).shape == (1, 1)
    assert kernel.gram(ROWS[:0]).shape == (0, 0)
    assert kernel.gram(ROWS, ROWS[:0]).shape == (len(ROWS), 0)
    assert kernel.gram(ROWS[:0], ROWS).shape == (0, len(ROWS))
    weights = torch.ones(len(ROWS), 2, dtype=torch.float64)
    assert gram_times(kernel.block, ROWS[:0], ROWS, weights).shape == (0, 2)


def _one(case: dict, i: int, j: int) -> dict:
    return {"values": [v if pair == (i, j) else None for pair, v in zip(PAIRS, case["values"], strict=True)]}


def _lone(kernel: Kernel, i: int, j: int) -> torch.Tensor:
    """k(x_i, x_j) computed alone, at its place."""
    found = torch.full((len(ROWS), len(ROWS)), torch.nan, dtype=torch.float64)
    found[i, j] = kernel.gram(ROWS[[i]], ROWS[[j]])
    found[j, i] = kernel.gram(ROWS[[j]], ROWS[[i]])
    return found


@each
def test_ordinary_rows_in_float32_have_float32_values(case: dict) -> None:
    """Rows of ordinary size under ordinary bandwidths; ε/t is what is left of an angle t."""
    if case["kernel"].get("bandwidths", [1.0])[0] < 0.1:
        pytest.skip("a float32 row is further from the float64 one than the bandwidth")
    kernel = kernel_of(case["kernel"])
    some = [name for name in NAMES if not name.startswith("1e")]
    rows = ROWS[[NAMES.index(name) for name in some]]
    found, exact = kernel.gram(rows.float(), rows.float()), kernel.gram(rows.float().double())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=2e-5, atol=2e-5 * float(exact.abs().max()))


@pytest.mark.parametrize("kernel", [RbfKernel(1.0), RbfKernel(0.05), LaplaceKernel(2.0)])
def test_rows_far_from_the_origin_keep_their_distances(kernel: Kernel) -> None:
    x = normal(40, 5)
    shift = torch.full((5,), 2.0**26, dtype=torch.float64)
    shifted = x + shift
    torch.testing.assert_close(kernel.gram(shifted), kernel.gram(shifted - shift), rtol=1e-12, atol=0)
    torch.testing.assert_close(
        kernel.gram(shifted[:9], shifted),
        kernel.gram(shifted[:9] - shift, shifted - shift),
        rtol=1e-12,
        atol=0,
    )


def test_an_outlier_costs_the_other_rows_no_digits() -> None:
    x = normal(40, 5)
    with_outlier = torch.cat([x, torch.full((1, 5), 1e9, dtype=torch.float64)])
    for kernel in (RbfKernel(1.0), LaplaceKernel(2.0)):
        torch.testing.assert_close(kernel.gram(with_outlier)[:40, :40], kernel.gram(x), rtol=1e-12, atol=0)


@pytest.mark.parametrize("bandwidth", [5e-324, 1e-200, 1e-160, 1e12])
@pytest.mark.parametrize("kind", [RbfKernel, LaplaceKernel])
def test_a_bandwidth_beyond_all_measure_gives_the_limit_of_the_kernel(kind: type, bandwidth: float) -> None:
    x = normal(5)
    gram = kind(bandwidth).gram(torch.cat([x, x]), torch.cat([x, x]))
    same = torch.eye(5, dtype=torch.float64).repeat(2, 2)
    expected = same if bandwidth < 1 else torch.ones_like(same)
    torch.testing.assert_close(gram, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "kernel",
    [
        RbfKernel(1.0),
        RbfKernel(1e-3),
        LaplaceKernel(2.0),
        ArcCosineKernel(1),
        NetworkKernel(True, 3, "relu", 2.0, 0.1),
    ],
)
def test_a_gram_costs_the_same_flops_whatever_its_rows(kernel: Kernel) -> None:
    for x in (normal(40), normal(1).repeat(40, 1), torch.cat([normal(20), -normal(20)])):
        with FlopCounter() as counter:
            kernel.gram(x)
        assert counter.flops == kernel.flops(3).gram(40)


@pytest.mark.parametrize("dim", [1, 60])
@pytest.mark.parametrize("bias", [0.0, 0.1])
def test_many_parallel_rows_agree_with_the_diagonal_of_each(dim: int, bias: float) -> None:
    """k(c x, x) is in closed form what the diagonal's recursion says of √c x where there is no bias."""
    x = normal(1, dim, seed=2)
    multiples = torch.linspace(0.5, 3.0, 300, dtype=torch.float64)[:, None] * x
    kernel = NetworkKernel(True, 3, "relu", 2.0, bias)
    gram = kernel.gram(multiples)
    assert torch.equal(gram, gram.mT)
    between = kernel.gram(multiples, multiples.clone())
    torch.testing.assert_close(between.diagonal(), kernel.diagonal(multiples), rtol=1e-13, atol=0)
    torch.testing.assert_close(between, gram, rtol=1e-13, atol=0)
    if bias == 0:
        norms = multiples.norm(dim=1)
        torch.testing.assert_close(
            gram,
            torch.outer(norms, norms) * float(kernel.diagonal(x)) / float(x.square().sum()),
            rtol=1e-12,
            atol=0,
        )
    assert float(torch.linalg.eigvalsh(gram)[0]) > -1e-12 * float(gram.diagonal().sum())
