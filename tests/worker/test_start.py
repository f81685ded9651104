"""What the processes of a stack load before they have anything to do: it is the time for which killed work rests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LATER = ("sklearn", "scipy", "pyarrow", "pandas", "matplotlib", "sympy")
"""Loaded by what needs them (docs/decisions/0057)."""


def loaded(statement: str) -> set[str]:
    """Packages and modules after a statement in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*sys.modules, sep='\\n')"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(answer.stdout.split())


@pytest.mark.parametrize(
    ("module", "barred"),
    [
        ("worker.child", (*LATER, "torch._dynamo", "sqlalchemy", "celery")),
        ("service.app", (*LATER, "torch", "alembic", "vl_convert", "psycopg", "redis")),
        ("worker.process", (*LATER, "numpy", "torch", "alembic", "fastapi", "psycopg", "redis")),
        ("worker.__main__", (*LATER, "numpy", "torch", "sqlalchemy", "celery")),
        ("service.embedded", (*LATER, "numpy", "torch", "sqlalchemy", "alembic", "pydantic")),
    ],
)
def test_a_process_starts_without_what_it_may_never_need(module: str, barred: tuple[str, ...]) -> None:
    assert not loaded(f"import {module}") & set(barred)


@pytest.mark.parametrize(
    "learner",
    [
        {"kind": "feature_map_regression", "method": "lasso", "degree": 2},
        {"kind": "feature_map_regression", "method": "omp", "degree": 2},
        {"kind": "sparse_coding"},
        {"kind": "gradient_boosting"},
    ],
)
def test_a_learner_that_needs_more_loads_it_itself(learner: dict) -> None:
    code = f"""
from bfc_core.run import execute_pack
from bfc_core.specs import ExperimentSpec
import sys
spec = ExperimentSpec.model_validate(dict(
    name="later", target=dict(kind="hierarchical_quadratic", widths=[2, 1], alphas=[1, 0.1]),
    learners=[{learner}], n=64, dim=4, seeds=1, budget=dict(test_samples=64)))
assert "sklearn" not in sys.modules
[report] = execute_pack(spec.runs())
assert report.outcome == "succeeded", report
assert "sklearn" in sys.modules
"""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # noqa: TID251 - what a process inherits
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
