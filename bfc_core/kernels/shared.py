"""Grams and eigendecompositions that several fits share: in memory within a pack, on disk between packs.

Runs that differ in target, noise or ridges but not in inputs have the same gram and the same eigendecomposition, which
is nearly all of a fit's time up to 2000 samples; runs that differ in n have nested inputs and nested grams. Only whole
blocks of a gram are lent, so a fit gets the very bits that it would have computed alone.
"""

import hashlib
import io
import logging
import os
import platform
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.flops import algebra
from bfc_core.flops.counting import charged
from bfc_core.kernels.base import Kernel
from bfc_core.kernels.gram import symmetric_gram
from bfc_core.kernels.ridge import Eigendecomposition

_LOG = logging.getLogger(__name__)

WORTH_A_FILE = 500
"""Samples below which an eigendecomposition is made faster than it is read."""

FORMULAS = 2
"""Counts the changes of kernels' last bits: a decomposition on disk that earlier formulas made is not found."""

STALE_SECONDS = 3600.0
"""Age at which a file that was never finished is taken for what a killed process left."""

_DIGEST_BYTES = 32


@dataclass(frozen=True)
class EigendecompositionFolder:
    """A folder of eigendecompositions by content hash, with a bound on its size.

    A file is a SHA-256 digest and a NumPy array of n + 1 rows, the eigenvalues first and then one eigenvector a row;
    it is written whole or not at all, and one that does not match its digest counts as absent. Beyond
    ``limit_bytes`` the files that were longest not used go. Several processes may share the folder. A folder that
    cannot be read or written (no rights, no space) lends and keeps nothing: no fit fails for it.
    """

    folder: Path
    limit_bytes: int

    def load(self, key: str) -> Eigendecomposition | None:
        """The decomposition under ``key``, or None."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        digest, array = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(array).digest() != digest:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        with suppress(OSError):
            os.utime(path)
        rows = torch.from_numpy(np.load(io.BytesIO(array), allow_pickle=False))
        # In column order, as the library returns it: another order of a product's operands is other last bits.
        return Eigendecomposition(rows[0], rows[1:].mT)

    def holds(self, key: str) -> bool:
        """Whether there is a file under ``key``."""
        return self._path(key).exists()

    def save(self, key: str, decomposed: Eigendecomposition) -> None:
        """Keep a decomposition, unless it alone is larger than the folder may be, or the folder takes nothing."""
        rows = torch.cat([decomposed.values[None], decomposed.vectors.mT]).cpu().numpy()
        if rows.nbytes > self.limit_bytes:
            return
        buffer = io.BytesIO()
        np.save(buffer, rows, allow_pickle=False)
        content = buffer.getvalue()
        temporary = self.folder / f".{uuid4().hex}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(hashlib.sha256(content).digest() + content)
            temporary.replace(self._path(key))
        except OSError as reason:
            _LOG.warning("an eigendecomposition was not kept: %s", reason)
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        self._shrink()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.eigh"

    def _shrink(self) -> None:
        for used, _, path in self._files(".*.tmp"):
            if used < time.time() - STALE_SECONDS:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
        entries = self._files("*.eigh")
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.limit_bytes:
                return
            with suppress(OSError):
                path.unlink(missing_ok=True)
            total -= size

    def _files(self, pattern: str) -> list[tuple[float, int, Path]]:
        """When each was last used, its size and its path."""
        found = []
        for path in self.folder.glob(pattern):
            try:
                status = path.stat()
            except OSError:  # another process was first
                continue
            found.append((status.st_mtime, status.st_size, path))
        return found


class SharedGrams:
    """What a pack keeps of its grams and eigendecompositions, newest first, within ``memory_bytes``.

    ``name`` stands for the kernel with its parameters and feature map; equal names mean equal kernels.
    """

    def __init__(self, memory_bytes: int = 0, folder: EigendecompositionFolder | None = None) -> None:
        self._memory_bytes, self._folder = memory_bytes, folder
        self._grams: OrderedDict[str, tuple[str, Tensor, Tensor]] = OrderedDict()
        self._decomposed: OrderedDict[str, Eigendecomposition] = OrderedDict()

    def gram(self, name: str, kernel: Kernel, x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
        """The gram of x, the caller's own; copied from a kept one where x and its inputs begin with the same rows.

        A fit is charged for the whole gram, whoever made it.
        """
        with charged(kernel.flops(x.shape[1]).gram(len(x))):
            return self._gram(name, kernel, x)

    def _gram(self, name: str, kernel: Kernel, x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
        known = None
        for key, (kept_name, inputs, kept) in self._grams.items():
            common = min(len(inputs), len(x))
            if kept_name == name and torch.equal(inputs[:common], x[:common]):
                self._grams.move_to_end(key)
                known = kept
                break
        gram = kernel.gram(x) if known is None else symmetric_gram(kernel.block, kernel.diagonal(x), x, known)
        if known is not None and len(known) >= len(x):
            return gram
        if 2 * _bytes(gram) <= self._memory_bytes:
            self._grams[_key(name, x)] = (name, x, gram.clone())
            self._forget()
        return gram

    def eigendecomposition(self, name: str, kernel: Kernel, x: Float[Tensor, "n d"]) -> Eigendecomposition:
        """The decomposition of x's gram, from memory, from disk, or made; a fit is charged for making it.

        Raises:
            KernelNotPositiveDefinite: the gram is not finite.
        """
        if self._memory_bytes == 0 and self._folder is None:
            return Eigendecomposition.of(kernel.gram(x))
        with charged(kernel.flops(x.shape[1]).gram(len(x)) + algebra.eigendecomposition(len(x))):
            return self._eigendecomposition(name, kernel, x)

    def keep(self, name: str, x: Float[Tensor, "n d"], decomposed: Eigendecomposition) -> None:
        """Lend a decomposition that somebody has made of x's gram."""
        key = _key(name, x)
        if self._folder is not None and len(x) >= WORTH_A_FILE and not self._folder.holds(key):
            self._folder.save(key, decomposed)
        self._remember(key, decomposed)

    def _eigendecomposition(self, name: str, kernel: Kernel, x: Float[Tensor, "n d"]) -> Eigendecomposition:
        key = _key(name, x)
        if key in self._decomposed:
            self._decomposed.move_to_end(key)
            return self._decomposed[key]
        is_filed = self._folder is not None and len(x) >= WORTH_A_FILE
        decomposed = self._folder.load(key) if is_filed and self._folder is not None else None
        if decomposed is None:
            decomposed = Eigendecomposition.of(self.gram(name, kernel, x))
            if is_filed and self._folder is not None:
                self._folder.save(key, decomposed)
        self._remember(key, decomposed)
        return decomposed

    def _remember(self, key: str, decomposed: Eigendecomposition) -> None:
        if _bytes(decomposed.vectors) <= self._memory_bytes:
            self._decomposed[key] = decomposed
            self._forget()

    def _forget(self) -> None:
        """Drop the longest unused, grams first: they are the cheaper to make again."""
        while self._held() > self._memory_bytes:
            if self._grams:
                self._grams.popitem(last=False)
            else:
                self._decomposed.popitem(last=False)

    def _held(self) -> int:
        grams = sum(_bytes(gram) for _, _, gram in self._grams.values())
        return grams + sum(_bytes(decomposed.vectors) for decomposed in self._decomposed.values())


def _bytes(matrix: Tensor) -> int:
    return matrix.numel() * matrix.element_size()


def _key(name: str, x: Float[Tensor, "n d"]) -> str:
    """Content hash of kernel and inputs, and of what decides the last bits: formulas, versions and machine."""
    facts = f"{FORMULAS}|{name}|{tuple(x.shape)}|{x.dtype}|{torch.__version__}|{platform.machine()}|"
    digest = hashlib.sha256(facts.encode())
    digest.update(x.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
