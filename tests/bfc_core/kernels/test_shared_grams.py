"""What fits share: grams and eigendecompositions, in memory and on disk."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from bfc_core.kernels import shared
from bfc_core.kernels.rbf import RbfKernel
from bfc_core.kernels.ridge import Eigendecomposition
from bfc_core.kernels.shared import EigendecompositionFolder, SharedGrams

KERNEL = RbfKernel(1.0)


def normal(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class CountingKernel(RbfKernel):
    def __init__(self) -> None:
        super().__init__(1.0)
        self.grams = 0

    def gram(self, x: torch.Tensor, z: torch.Tensor | None = None) -> torch.Tensor:
        self.grams += 1
        return super().gram(x, z)


@pytest.mark.parametrize(("first", "second"), [(1100, 600), (600, 1100), (600, 600)])
def test_nested_inputs_share_whole_blocks_and_change_no_bit(first: int, second: int, monkeypatch) -> None:
    x = normal(1100)
    grams, blocks = SharedGrams(2**28), []
    grams.gram("rbf", KERNEL, x[:first])
    block = RbfKernel.block
    monkeypatch.setattr(RbfKernel, "block", lambda *a: blocks.append(1) or block(*a))
    nested = grams.gram("rbf", KERNEL, x[:second])
    shared_blocks = len(blocks)
    assert torch.equal(nested, KERNEL.gram(x[:second]))
    assert shared_blocks == len(blocks) - shared_blocks - 1, "one whole block was lent"
    nested.zero_()
    assert grams.gram("rbf", KERNEL, x[:second]).any(), "the answer is the caller's own"


@pytest.mark.parametrize(("name", "x"), [("other", normal(20)), ("rbf", normal(20, seed=1))])
def test_another_kernel_or_other_inputs_share_nothing(name: str, x: torch.Tensor) -> None:
    kernel = CountingKernel()
    grams = SharedGrams(2**20)
    grams.gram("rbf", kernel, normal(20))
    grams.gram(name, kernel, x)
    assert kernel.grams == 2


def test_an_eigendecomposition_is_made_once() -> None:
    kernel, x = CountingKernel(), normal(30)
    grams = SharedGrams(2**20)
    first = grams.eigendecomposition("rbf", kernel, x)
    assert grams.eigendecomposition("rbf", kernel, x) is first
    assert kernel.grams == 1


def test_memory_is_bounded_and_zero_keeps_nothing() -> None:
    kernel = CountingKernel()
    grams = SharedGrams(2 * 8 * 30**2)
    for seed in range(5):
        grams.eigendecomposition("rbf", kernel, normal(30, seed))
        assert grams._held() <= 2 * 8 * 30**2
    none = SharedGrams()
    none.eigendecomposition("rbf", kernel, normal(30))
    none.gram("rbf", kernel, normal(30))
    assert none._held() == 0


def test_a_folder_lends_between_packs_and_a_damaged_file_counts_as_absent(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shared, "WORTH_A_FILE", 10)
    folder = EigendecompositionFolder(tmp_path / "cache", 2**20)
    x = normal(30)
    first = SharedGrams(0, folder).eigendecomposition("rbf", KERNEL, x)
    kernel = CountingKernel()
    again = SharedGrams(0, folder).eigendecomposition("rbf", kernel, x)
    assert kernel.grams == 0
    assert torch.equal(again.vectors, first.vectors)
    assert torch.equal(again.values, first.values)
    (file,) = folder.folder.glob("*.eigh")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    repaired = SharedGrams(0, folder).eigendecomposition("rbf", kernel, x)
    assert kernel.grams == 1
    torch.testing.assert_close(repaired.values, first.values)


def test_a_folder_keeps_to_its_limit_and_forgets_the_longest_unused(tmp_path) -> None:
    one = Eigendecomposition(torch.ones(20, dtype=torch.float64), torch.eye(20, dtype=torch.float64))
    size = 8 * 21 * 20 + 300
    folder = EigendecompositionFolder(tmp_path, 3 * size)
    for key in "abc":
        folder.save(key, one)
    assert folder.load("a") is not None  # used again: now "b" is the oldest
    folder.save("d", one)
    assert [folder.load(key) is not None for key in "abcd"] == [True, False, True, True]
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 3 * size
    tiny = EigendecompositionFolder(tmp_path / "tiny", 100)
    tiny.save("a", one)
    assert tiny.load("a") is None


ONE = Eigendecomposition(torch.ones(20, dtype=torch.float64), torch.eye(20, dtype=torch.float64))


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 31, b"x" * 32, b"x" * 5000])
def test_a_foreign_or_truncated_file_counts_as_absent_and_is_replaced(tmp_path, content: bytes) -> None:
    folder = EigendecompositionFolder(tmp_path, 2**20)
    (tmp_path / "a.eigh").write_bytes(content)
    assert folder.load("a") is None
    folder.save("a", ONE)
    kept = folder.load("a")
    assert kept is not None
    assert torch.equal(kept.vectors, ONE.vectors)


def test_a_folder_that_takes_nothing_fails_no_fit(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shared, "WORTH_A_FILE", 10)
    (tmp_path / "file").write_text("no folder")
    folder = EigendecompositionFolder(tmp_path / "file" / "cache", 2**20)
    x = normal(30)
    found = SharedGrams(0, folder).eigendecomposition("rbf", KERNEL, x)
    torch.testing.assert_close(found.values, Eigendecomposition.of(KERNEL.gram(x)).values)
    # A folder in the place of a file can be neither read, replaced nor deleted.
    blocked = EigendecompositionFolder(tmp_path / "blocked", 2**20)
    (tmp_path / "blocked" / "a.eigh" / "inside").mkdir(parents=True)
    assert blocked.load("a") is None
    blocked.save("a", ONE)
    assert [path.name for path in blocked.folder.iterdir()] == ["a.eigh"], "nothing half written is left"


def test_a_folder_without_rights_still_lends_and_fails_nothing(tmp_path, monkeypatch) -> None:
    """Rights do not bind the user that tests may run as, so the system calls refuse instead."""
    folder = EigendecompositionFolder(tmp_path, 2**20)
    folder.save("good", ONE)
    (tmp_path / "bad.eigh").write_bytes(b"damaged")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shared.os, "utime", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(Path, "write_bytes", refuse)
    good = folder.load("good")
    assert good is not None
    assert torch.equal(good.values, ONE.values)
    assert folder.load("bad") is None
    folder.save("other", ONE)
    EigendecompositionFolder(tmp_path, 1).save("other", ONE)


def test_what_a_killed_process_left_is_cleared_away(tmp_path) -> None:
    stale, fresh = tmp_path / ".stale.tmp", tmp_path / ".fresh.tmp"
    for path in (stale, fresh):
        path.write_bytes(b"half")
    os.utime(stale, (0, 0))
    EigendecompositionFolder(tmp_path, 2**20).save("a", ONE)
    assert not stale.exists()
    assert fresh.exists(), "another process may be writing it"


def test_processes_that_save_at_once_keep_the_folder_within_its_limit(tmp_path) -> None:
    size = 8 * 21 * 20 + 300
    folder = EigendecompositionFolder(tmp_path, 5 * size)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: folder.save(str(key), ONE), range(60)))
        found = list(pool.map(lambda key: folder.load(str(key)), range(60)))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 5 * size
    assert not list(tmp_path.glob(".*.tmp"))
    assert any(one is not None for one in found)


def test_a_decomposition_of_other_formulas_is_not_found(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shared, "WORTH_A_FILE", 10)
    folder, kernel, x = EigendecompositionFolder(tmp_path, 2**20), CountingKernel(), normal(30)
    SharedGrams(0, folder).eigendecomposition("rbf", kernel, x)
    monkeypatch.setattr(shared, "FORMULAS", shared.FORMULAS + 1)
    SharedGrams(0, folder).eigendecomposition("rbf", kernel, x)
    assert kernel.grams == 2
