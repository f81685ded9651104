"""Which version of the schema a database has, without Alembic."""

from sqlalchemy import inspect, text

from service.database import Database


def current_revision(database: Database) -> str | None:
    """The version that the database has; None where it is empty.

    Raises:
        SQLAlchemyError: it does not answer.
    """
    with database.engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
