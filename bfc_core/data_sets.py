"""Files of users' samples: what a file must hold, where it lies, and ``python -m bfc_core.data_sets`` to add one.

A file is an npz with the arrays ``x`` (a row a sample; images may keep their shape, they are flattened) and ``y``, a
number or a class number a row. It lies in a folder of data sets as ``<SHA-256>.npz``, so that a spec which names the
hash names the content. Nothing in it is ever unpickled, and its declared sizes are checked before it is read. Free of
torch.
"""

import argparse
import hashlib
import json
import struct
import sys
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.lib import format as npy

from bfc_core.errors import DataSetUnusable
from bfc_core.specs.data_sets import Array

LIMIT_BYTES = 2**31
"""Most bytes of a file, and of its arrays."""

MOST_CLASSES = 1000

UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, RuntimeError)
"""What the libraries raise on files that are damaged, encrypted, or packed in a way that they do not know."""


@dataclass(frozen=True)
class Samples:
    """x as float64, a row a sample; y as float64, or as int64 where it is a class number."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Facts:
    """What the headers of a file declare."""

    rows: int
    columns: int
    labels_are_integers: bool


def path_of(folder: Path, sha256: str) -> Path:
    """Where the file of this content lies."""
    return folder / f"{sha256}.npz"


def check(target: Array, folder: Path | None) -> Path:
    """The file that a target names, once it has the content and the sizes that the target says.

    Raises:
        DataSetUnusable: there is no such file, or it is another one.
    """
    if folder is None:
        raise DataSetUnusable(f"{target.name} needs a folder of data sets, and none is configured")
    path = path_of(folder, target.sha256)
    try:
        status = path.stat()
    except OSError:
        raise DataSetUnusable(
            f"there is no file {path.name} among the data sets: add it with python -m bfc_core.data_sets"
        ) from None
    if _sha256(path, status.st_size, status.st_mtime_ns) != target.sha256:
        raise DataSetUnusable(f"the file {path.name} does not have the SHA-256 that it is named by")
    found = facts_of(path)
    if (found.rows, found.columns) != (target.rows, target.columns):
        raise DataSetUnusable(
            f"{target.name} has {found.rows} rows of {found.columns} numbers, the target says "
            f"{target.rows} of {target.columns}"
        )
    if target.classes is not None and not found.labels_are_integers:
        raise DataSetUnusable(f"{target.name} has labels that are no class numbers: leave classes out")
    return path


def load(target: Array, folder: Path | None) -> Samples:
    """Read the samples of a target.

    Raises:
        DataSetUnusable: the file is missing, another one, or holds numbers that are not finite or no class numbers.
    """
    samples = read(check(target, folder))
    if target.classes is None:
        return Samples(samples.x, samples.y.astype(np.float64))
    if samples.y.min() < 0 or samples.y.max() >= target.classes:
        raise DataSetUnusable(
            f"{target.name} has the class numbers {samples.y.min()} to {samples.y.max()}, the target says "
            f"{target.classes} classes from 0 on"
        )
    return Samples(samples.x, samples.y.astype(np.int64))


def facts_of(path: Path) -> Facts:
    """Read the headers, and nothing else.

    Raises:
        DataSetUnusable: no npz, arrays missing or of shapes and types that are no samples, or larger than allowed.
    """
    if path.stat().st_size > LIMIT_BYTES:
        raise DataSetUnusable(f"the file is larger than {LIMIT_BYTES / 2**30:.0f} GiB")
    try:
        with zipfile.ZipFile(path) as archive:
            headers = {name: _header(archive, name) for name in ("x", "y")}
    except UNREADABLE as error:
        raise DataSetUnusable(f"no npz file of plain arrays: {error}") from None
    (shape, kind), (labels, label_kind) = headers["x"], headers["y"]
    if len(shape) < 2 or min(shape) < 1:  # noqa: PLR2004 - rows and columns
        raise DataSetUnusable(f"x has the shape {shape}: a row a sample is needed, of one number at least")
    if labels != (shape[0],):
        raise DataSetUnusable(
            f"y has the shape {labels}: one label for each of the {shape[0]} rows is needed"
        )
    if kind.kind not in "fiub" or label_kind.kind not in "fiub":
        raise DataSetUnusable(f"x and y must hold numbers, not {kind} and {label_kind}")
    columns = prod(shape[1:])
    if shape[0] * columns * 8 > LIMIT_BYTES:
        raise DataSetUnusable(f"as float64 x would fill more than {LIMIT_BYTES / 2**30:.0f} GiB")
    return Facts(shape[0], columns, label_kind.kind in "iub")


def read(path: Path) -> Samples:
    """Read both arrays, never unpickling anything; float64 rows, labels as they are.

    Raises:
        DataSetUnusable: as :func:`facts_of`, a file that ends early, or numbers that are not finite.
    """
    found = facts_of(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x, y = np.asarray(arrays["x"], dtype=np.float64), np.asarray(arrays["y"])
    except UNREADABLE as error:
        raise DataSetUnusable(f"the file cannot be read: {error}") from None
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataSetUnusable("x or y holds values that are not finite")
    return Samples(x.reshape(found.rows, found.columns), y)


def add(file: Path, folder: Path, *, numbers: bool = False, test_rows: int | None = None) -> Array:
    """Check a file, copy it into a folder of data sets, and say what target it is.

    Integer labels from 0 on are taken for class numbers unless ``numbers``; a fifth of the rows is for testing.

    Raises:
        DataSetUnusable: the file holds no samples.
        ValueError: the samples make no target: too few or too many rows or columns.
    """
    try:
        content = file.read_bytes() if file.stat().st_size <= LIMIT_BYTES else b""
    except OSError as error:
        raise DataSetUnusable(f"cannot read {file.name}: {error.strerror}") from None
    found, samples = facts_of(file), read(file)
    classes = None
    if found.labels_are_integers and not numbers:
        classes = int(samples.y.max()) + 1
        if samples.y.min() < 0 or not 1 < classes <= MOST_CLASSES:
            raise DataSetUnusable(
                f"integer labels from {samples.y.min()} to {samples.y.max()} are no class numbers from 0 on: add the "
                "file with --numbers to learn them as numbers"
            )
    digest = hashlib.sha256(content).hexdigest()
    target = Array(
        kind="array",
        sha256=digest,
        rows=found.rows,
        columns=found.columns,
        classes=classes,
        test_rows=max(16, found.rows // 5) if test_rows is None else test_rows,
    )
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{uuid4().hex}.tmp"
    temporary.write_bytes(content)
    temporary.replace(path_of(folder, digest))
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """Add one file and print its target; 0, or 2 where it was refused."""
    parser = argparse.ArgumentParser(prog="python -m bfc_core.data_sets", description=__doc__)
    parser.add_argument("file", type=Path, help="an npz file with the arrays x and y")
    parser.add_argument(
        "--folder", type=Path, default=Path("var/data-sets"), help="where runs look (default: var/data-sets)"
    )
    parser.add_argument("--numbers", action="store_true", help="integer labels are numbers, not classes")
    parser.add_argument(
        "--test-rows", type=int, default=None, help="rows kept for testing (default: a fifth)"
    )
    options = parser.parse_args(arguments)
    try:
        target = add(options.file, options.folder, numbers=options.numbers, test_rows=options.test_rows)
    except (DataSetUnusable, ValueError) as refusal:
        sys.stderr.write(f"{refusal}\nthe file was refused; nothing was kept\n")
        return 2
    json.dump(target.model_dump(mode="json"), sys.stdout, indent=1)
    sys.stdout.write("\n")
    return 0


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, changed: int) -> str:  # noqa: ARG001 - another size or time is another file
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type that an array declares; its content is not read.

    Raises:
        ValueError: there is no such array, it is larger than allowed, or holds objects.
    """
    try:
        entry = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise ValueError(f"it has no array {name}") from None
    if entry.file_size > LIMIT_BYTES:
        raise ValueError(f"{name} is larger than {LIMIT_BYTES / 2**30:.0f} GiB")
    with archive.open(entry) as stream:
        version = npy.read_magic(stream)
        reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, kind = reader(stream)
    if kind.hasobject:
        raise ValueError(f"{name} holds Python objects, which are never read")
    if prod(shape) * kind.itemsize > LIMIT_BYTES:
        raise ValueError(f"{name} is larger than {LIMIT_BYTES / 2**30:.0f} GiB")
    return shape, kind


if __name__ == "__main__":
    sys.exit(main())
