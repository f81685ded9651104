"""The result table: one row for each run, as dicts, and as a data frame where a library is installed."""

import importlib
import json
from collections.abc import Iterator, Sequence
from html import escape
from types import ModuleType
from typing import Any, overload

from bfc_client.errors import MissingPackage

Row = dict[str, Any]
ROWS_SHOWN = 20


class Results(Sequence[Row]):
    """Rows in the order of the server: ``results[0]["nmse"]``, ``list(results)``, ``results.to_pandas()``."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = list(rows)

    @classmethod
    def from_ndjson(cls, content: bytes) -> "Results":
        """The rows of a newline-delimited JSON document."""
        return cls([json.loads(line) for line in content.splitlines() if line.strip()])

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> "Results": ...
    def __getitem__(self, index: int | slice) -> "Row | Results":
        return Results(self._rows[index]) if isinstance(index, slice) else self._rows[index]

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def __repr__(self) -> str:
        return f"<Results: {len(self)} rows of {', '.join(self.columns())}>"

    def _repr_html_(self) -> str:
        columns = self.columns()
        head = "".join(f"<th>{escape(name)}</th>" for name in columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(str(row.get(name, '')))}</td>" for name in columns) + "</tr>"
            for row in self._rows[:ROWS_SHOWN]
        )
        more = f"<p>and {len(self) - ROWS_SHOWN} more rows</p>" if len(self) > ROWS_SHOWN else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"

    def columns(self) -> list[str]:
        """Every name that occurs, in the order of its first occurrence."""
        return list(dict.fromkeys(name for row in self._rows for name in row))

    def to_pandas(self) -> Any:  # noqa: ANN401 - a type of an optional package
        """A ``pandas.DataFrame``.

        Raises:
            MissingPackage: pandas is not installed.
        """
        return _package("pandas").DataFrame(self._rows)

    def to_polars(self) -> Any:  # noqa: ANN401 - a type of an optional package
        """A ``polars.DataFrame``.

        Raises:
            MissingPackage: polars is not installed.
        """
        return _package("polars").from_dicts(self._rows, infer_schema_length=None)

    def to_arrow(self) -> Any:  # noqa: ANN401 - a type of an optional package
        """A ``pyarrow.Table``.

        Raises:
            MissingPackage: pyarrow is not installed.
        """
        return _package("pyarrow").Table.from_pylist(self._rows)


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingPackage(f"this conversion needs {name}: pip install {name}") from error
