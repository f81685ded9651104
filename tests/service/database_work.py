"""How much work a call gives a database, counted: no clock is asked."""

from collections.abc import Callable

from sqlalchemy import Connection, event, text

from service.database import Database

OPS = 10
"""SQLite reports its work every so many instructions of its virtual machine."""


def work(database: Database, call: Callable[[], object]) -> int:
    """How much the database does for ``call``: instructions (SQLite) or rows read (PostgreSQL); no clock is asked."""
    done = 0

    def count() -> None:
        nonlocal done
        done += 1

    def watch(connection: Connection) -> None:
        connection.connection.driver_connection.set_progress_handler(count, OPS)

    def begun(connection: Connection) -> None:
        nonlocal done
        # A table of a thousand rows is read whole rather than looked up in; one of millions would not be.
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        done -= _rows_read(connection)

    def ended(connection: Connection) -> None:
        nonlocal done
        done += _rows_read(connection)

    listeners = {"begin": watch} if database.is_sqlite else {"begin": begun, "commit": ended}
    for name, listener in listeners.items():
        event.listen(database.engine, name, listener)
    database.dispose()  # a connection keeps plans of its own, made when the tables were small
    try:
        call()
    finally:
        for name, listener in listeners.items():
            event.remove(database.engine, name, listener)
        database.dispose()
    return done


def _rows_read(connection: Connection) -> int:
    """By this connection, since it last told the server's statistics, which it does between transactions."""
    return connection.execute(
        text(
            "SELECT CAST(coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0) AS bigint) "
            "FROM pg_stat_xact_user_tables"
        )
    ).scalar_one()
