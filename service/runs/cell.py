"""What a run computes, as a hash: equal cells need not be computed twice."""

import hashlib
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.resources.abc import Traversable

from bfc_core.specs import Budget, RunSpec


@cache
def code_version() -> str:
    """Name the code that computes: the package's version and a hash over the sources of ``bfc_core``."""
    digest = hashlib.sha256()
    for name, content in sorted(_sources(files("bfc_core"), "")):
        digest.update(name.encode() + b"\0" + content + b"\0")
    try:
        released = version("bfc")
    except PackageNotFoundError:  # run from a checkout that was never installed
        released = "0"
    return f"{released}+{digest.hexdigest()[:12]}"


def cell_hash(run: RunSpec) -> str:
    """SHA-256 (hex) over the code version and the canonical spec, without what changes no number of a report.

    That is how long a pack may take, and the steps a stage of the budget, which a run's learner has as its own.
    """
    computed = run.model_copy(update={"budget": _computed(run.budget)})
    return hashlib.sha256(f"{code_version()}\0{computed.canonical_json()}".encode()).hexdigest()


@lru_cache(maxsize=64)
def _computed(budget: Budget) -> Budget:
    return budget.model_copy(update={"seconds": None, "steps_per_stage": None})


def _sources(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found.extend(_sources(entry, f"{prefix}{entry.name}/"))
        elif entry.name.endswith(".py"):
            found.append((prefix + entry.name, entry.read_bytes()))
    return found
