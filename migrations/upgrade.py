"""Bring a database to the newest version, or back to an earlier one.

Several processes may try at once: on PostgreSQL an advisory lock lets one at a time in, on SQLite the write lock
of BEGIN IMMEDIATE does. A migration is one transaction on both, so one that is killed half-way leaves nothing.
"""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from sqlalchemy import text

from service.database import Database

_ADVISORY_LOCK = 0x62666300


def upgrade(database: Database, revision: str = "head") -> None:
    """Run every version that is missing, up to ``revision``."""
    _migrate(database, revision, is_upgrade=True)


def downgrade(database: Database, revision: str) -> None:
    """Undo versions down to ``revision`` ("base" is the empty database)."""
    _migrate(database, revision, is_upgrade=False)


def _migrate(database: Database, revision: str, *, is_upgrade: bool) -> None:
    config = _config()
    with database.writing() as session:
        connection = session.connection()
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        config.attributes["connection"] = connection
        (command.upgrade if is_upgrade else command.downgrade)(config, revision)


def _config() -> Config:
    return Config(str(files("migrations") / "alembic.ini"))
