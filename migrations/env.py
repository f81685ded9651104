"""Run by Alembic: migrate the database of the settings, or the connection that the caller hands over."""

from typing import Any, Literal

from alembic import context
from sqlalchemy import Connection

from service.config import Settings
from service.database import open_database
from service.models import Base, UtcDateTime
from service.models.base import JsonValue


def _render(kind: str, item: Any, _autogenerate: Any) -> str | Literal[False]:  # noqa: ANN401 - Alembic's protocol
    """Write our column types as plain ones, so that a version never depends on today's models."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and item is JsonValue:
        return "JSON"
    return False


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        render_item=_render,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _run() -> None:
    given = context.config.attributes.get("connection")
    if given is not None:
        _migrate(given)
        return
    settings = Settings()
    database = open_database(settings.database_url, settings.busy_timeout)
    with database.engine.connect() as connection:
        _migrate(connection)
        connection.commit()
    database.dispose()


_run()
