"""One flat row a run, as CSV, Parquet or newline-delimited JSON."""

import csv
import io
import json
from typing import Literal
from uuid import UUID

from sqlalchemy.orm import Session

from bfc_core.statistics.aggregation import distinct_labels
from service.experiments.repository import get_experiment
from service.pagination import MAX_LIMIT
from service.runs.repository import list_runs
from service.runs.schemas import RunRead

Value = str | int | float | None
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def flat_rows(session: Session, experiment_id: UUID) -> list[dict[str, Value]]:
    """Every run of an experiment; columns of levels and degrees that a run has not are None."""
    name = get_experiment(session, experiment_id).name
    runs: list[RunRead] = []
    cursor: str | None = None
    while True:
        page = list_runs(session, experiment_id, None, MAX_LIMIT, cursor)
        runs.extend(page.items)
        cursor = page.next_cursor
        if cursor is None:
            break
    levels = sorted({level for run in runs if run.metrics for level in run.metrics.level_coefficient})
    degrees = sorted({degree for run in runs if run.metrics for degree in run.metrics.degree_coefficient})
    labels = distinct_labels([run.learner for run in runs])
    return [_flat(name, run, labels[run.learner], levels, degrees) for run in runs]


def as_csv(rows: list[dict[str, Value]]) -> bytes:
    """RFC 4180 with a header; text that a spreadsheet would take for a formula is prefixed with an apostrophe."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]) if rows else [])
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _harmless(value) for name, value in row.items()})
    return file.getvalue().encode()


def as_parquet(rows: list[dict[str, Value]]) -> bytes:
    """One row group; floats are double."""
    import pyarrow as pa  # noqa: PLC0415 - docs/decisions/0057
    from pyarrow import parquet  # noqa: PLC0415 - docs/decisions/0057

    types = {"integer": pa.int64(), "text": pa.string(), "number": pa.float64()}
    schema = pa.schema([(name, types[kind]) for name, kind in _kinds(rows).items()])
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
    return bytes(sink.getvalue().to_pybytes())


def as_ndjson(rows: list[dict[str, Value]]) -> bytes:
    """One JSON object a line."""
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()


def _flat(name: str, run: RunRead, label: str, levels: list[int], degrees: list[int]) -> dict[str, Value]:
    target = run.target.model_dump(mode="json")
    row: dict[str, Value] = {
        "experiment": name,
        "experiment_id": str(run.experiment_id),
        "run_id": str(run.id),
        "target": run.target.kind,
        "widths": json.dumps(target.get("widths")),
        "alphas": json.dumps(target.get("alphas", target.get("alpha"))),
        "learner": run.learner.kind,
        "label": label,
        "n": run.n,
        "dim": run.dim,
        "seed": run.seed,
        "status": run.status.value,
        "nmse": run.metrics.nmse if run.metrics else None,
    }
    for level in levels:
        metrics = run.metrics
        row[f"feature_error_{level}"] = metrics.feature_error.get(level) if metrics else None
        row[f"feature_error_scale_free_{level}"] = (
            metrics.feature_error_scale_free.get(level) if metrics else None
        )
        row[f"form_error_{level}"] = metrics.form_error.get(level) if metrics else None
        row[f"variance_explained_{level}"] = metrics.variance_explained.get(level) if metrics else None
    for degree in degrees:
        metrics = run.metrics
        row[f"degree_coefficient_{degree}"] = metrics.degree_coefficient.get(degree) if metrics else None
    row |= {
        "seconds": run.seconds,
        "steps": run.steps,
        "flops": run.flops,
        "peak_memory_bytes": run.peak_memory_bytes,
        "pack_members": run.pack_members,
        "attempts": run.attempts,
        "selection": json.dumps(run.selection),
        "message": run.message,
    }
    return row


def _kinds(rows: list[dict[str, Value]]) -> dict[str, Literal["integer", "text", "number"]]:
    integers = {
        "n", "dim", "seed", "steps", "flops", "peak_memory_bytes", "pack_members", "attempts",
    }  # fmt: skip
    texts = {
        "experiment", "experiment_id", "run_id", "target", "widths", "alphas", "learner", "label", "status",
        "selection", "message",
    }  # fmt: skip
    names = list(rows[0]) if rows else []
    return {name: "integer" if name in integers else "text" if name in texts else "number" for name in names}


def _harmless(value: Value) -> Value:
    if not isinstance(value, str):
        return value
    # Spreadsheets skip blanks before they look for a formula.
    is_formula = value.startswith(FORMULA_STARTS) or value.lstrip().startswith(FORMULA_STARTS)
    return f"'{value}" if is_formula else value
