"""What a result needs to be repeated: the resolved spec, versions, and the machine's numeric class."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bfc_core.specs import ExperimentSpec

PACKAGES = ("bfc", "numpy", "scipy", "torch", "pydantic")


def manifest_of(spec: ExperimentSpec, **facts: str | int) -> dict[str, Any]:
    """The spec with every default, its hash, package versions, and ``facts`` such as device and threads."""
    return {
        "spec": spec.model_dump(mode="json"),
        "spec_hash": spec.content_hash(),
        "versions": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "machine": platform.machine(),
        **facts,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
