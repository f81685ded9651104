"""What the newest version of the schema is, and whether a SQLite file has it, by the standard library alone.

A stack that starts again after it was killed asks this first: where nothing is to be migrated, nobody waits for the
import of Alembic (docs/decisions/0064).
"""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

_VERSIONS = Path(__file__).parent / "versions"
_STATEMENT = re.compile(r"""^(revision|down_revision) = ["']([^"']+)["']$""", re.MULTILINE)


def newest_revision() -> str:
    """The version that this code needs: the one that no other follows.

    Raises:
        ValueError: there is none, or more than one.
    """
    stated = [
        found.groups() for file in _VERSIONS.glob("*.py") for found in _STATEMENT.finditer(file.read_text())
    ]
    followed = {value for name, value in stated if name == "down_revision"}
    [newest] = {value for name, value in stated if name == "revision"} - followed
    return newest


def is_up_to_date(file: Path) -> bool:
    """Whether a SQLite database has the newest version; one that cannot tell has not."""
    if not file.is_file():
        return False
    try:
        # Not read-only: after a kill the first connection brings the write-ahead log in.
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True)) as database:
            rows = database.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error:
        return False
    return rows == [(newest_revision(),)]
