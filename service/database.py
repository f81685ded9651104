"""Engines and transactions for SQLite and PostgreSQL.

``Database.reading`` and ``Database.writing`` are the only ways to a session. On SQLite a writing transaction
begins with BEGIN IMMEDIATE: one that reads first and writes later in a plain transaction fails at once or
loses an update when another writer came between. On PostgreSQL both are READ COMMITTED.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, make_url, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from service.models import UtcDateTime

LOCK_NOT_AVAILABLE = "55P03"
READ_ONLY_TRANSACTION = "25006"
"""Answers of PostgreSQL, as ``sql_state`` tells them."""

_BEGIN = "bfc_begin"


class Database:
    """One engine and its transactions; safe to share among threads, not across a fork."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._writing_engine = engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded database."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a session on one snapshot (SQLite); it is rolled back at the end."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Open a session that commits when the block ends and rolls back when it raises."""
        with Session(self._writing_engine, expire_on_commit=False) as session, session.begin():
            yield session

    def dispose(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def open_database(
    url: str,
    busy_timeout: timedelta = timedelta(seconds=30),
    idle_timeout: timedelta = timedelta(seconds=15),
) -> Database:
    """Make the engine for ``url``; nothing is connected yet.

    Args:
        url: ``sqlite:////absolute/file`` or ``postgresql+psycopg://…``.
        busy_timeout: how long a SQLite writer waits for another.
        idle_timeout: after it PostgreSQL ends a transaction in which nothing happens. A process that is stopped in
            the middle of one would otherwise hold its rows for ever, and nobody could take over its packs.
    """
    if make_url(url).get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": busy_timeout.total_seconds()})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        engine = create_engine(
            url,
            pool_pre_ping=True,
            pool_size=10,
            max_overflow=20,
            connect_args={
                "connect_timeout": 5,
                # A network that is cut says nothing: without these a write to it waits for a quarter of an hour.
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": 30_000,
                "options": f"-c idle_in_transaction_session_timeout={int(idle_timeout.total_seconds() * 1000)}",
            },
        )
    return Database(engine)


def database_now(session: Session) -> datetime:
    """Now by the clock that all processes share: the server's, or this machine's (SQLite).

    The transaction has begun when this returns, so the answer is not older than the wait for a write lock.
    """
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    return connection.execute(select(func.clock_timestamp(type_=UtcDateTime))).scalar_one()


def in_words(error: SQLAlchemyError) -> str:
    """What the database or its driver said, without the statement that it was said of."""
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0]


def sql_state(error: DBAPIError) -> str | None:
    """PostgreSQL's five characters for what went wrong; None from SQLite, whose stack never loads that driver."""
    state = getattr(error.orig, "sqlstate", None)
    return state if isinstance(state, str) else None


def _prepare_sqlite(connection: Any, _record: Any) -> None:  # noqa: ANN401 - the driver's own types
    # The driver would otherwise begin transactions itself, and always deferred ones.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))
