"""Versions of the schema forward and backward on a filled database; a backup that can be restored."""

import sqlite3
import subprocess
from pathlib import Path
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, func, make_url, select, text
from sqlalchemy.engine import URL

from migrations import upgrade as migrations
from migrations.current import current_revision
from migrations.newest import is_up_to_date, newest_revision
from migrations.upgrade import downgrade, upgrade
from service.database import Database, open_database
from service.models import Base, Experiment, ExperimentStatus, Report, TallyName
from service.runs.tallies import differences, read_tallies
from tests.service.conftest import SMALL, migrated, serve, settings_for

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.servers)])
def filled(request: pytest.FixtureRequest, tmp_path: Path):
    """A database in which experiments are finished, half done, paused and queued."""
    url = (
        f"sqlite:///{tmp_path / 'bfc.db'}"
        if request.param == "sqlite"
        else request.getfixturevalue("new_postgres")
    )
    migrated(url)
    for api in serve(settings_for(url, tmp_path)):
        api.submitted()
        api.finish_all()
        api.submitted(name="half done")
        api.finish(api.claim())
        paused = api.submitted(name="paused")
        api.client.post(f"{paused['links']['self']}/pause")
        api.post(SMALL | {"name": "queued"}, headers={"Idempotency-Key": "k"})
    database = open_database(url)
    yield database
    database.dispose()


def contents(database: Database) -> dict[str, int]:
    with database.reading() as session:
        return {
            name: session.execute(select(func.count()).select_from(table)).scalar_one()
            for name, table in Base.metadata.tables.items()
            # What is tallied is a sum: how many rows it has does not matter.
            if name not in {"api_keys", "tallies"}
        }


def counts(database: Database) -> tuple[dict, dict]:
    """What experiments and /metrics keep of what other tables say."""
    with database.reading() as session:
        kept = {row.id: (row.runs_by_status, row.reused_runs) for row in session.scalars(select(Experiment))}
        tallies = {
            key: tally[0]
            for key, tally in read_tallies(session).items()
            # The oldest versions did not time a kernel's solve.
            if tally[0] and key.name is not TallyName.SOLVE_SECONDS
        }
        assert differences(session) == {}
    return kept, tallies


def test_every_version_back_and_forth_keeps_the_work(filled: Database) -> None:
    before, counted = contents(filled), counts(filled)
    versions = [
        script.revision for script in ScriptDirectory.from_config(migrations._config()).walk_revisions()
    ]
    assert versions[-1] == "0001"
    for version in versions[1:]:
        downgrade(filled, version)
        assert current_revision(filled) == version
    for version in reversed(versions):
        upgrade(filled, version)
    assert current_revision(filled) == newest_revision()
    assert contents(filled) == before
    assert counts(filled) == counted
    with filled.reading() as session:
        statuses = set(session.scalars(select(Experiment.status)))
    assert ExperimentStatus.PAUSED not in statuses, "the older version knew no pauses: they go on"


def test_the_newest_version_is_known_without_alembic(tmp_path: Path) -> None:
    assert newest_revision() == ScriptDirectory.from_config(migrations._config()).get_current_head()
    file = tmp_path / "bfc.db"
    assert not is_up_to_date(file)
    assert not file.exists(), "looking makes no database"
    database = open_database(f"sqlite:///{file}")
    upgrade(database, "0100")
    assert not is_up_to_date(file)
    upgrade(database)
    assert is_up_to_date(file)
    database.dispose()
    file.write_bytes(b"no database, and no error here either: the migration says what is wrong")
    assert not is_up_to_date(file)


def test_a_database_goes_down_to_nothing_and_up_again(filled: Database) -> None:
    downgrade(filled, "base")
    assert current_revision(filled) is None
    upgrade(filled)
    assert set(contents(filled).values()) == {0}


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection", "ignore:autogenerate skipping")
def test_the_newest_version_is_the_models(filled: Database) -> None:
    with filled.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "render_as_batch": True})
        differences = [
            d
            for d in compare_metadata(context, Base.metadata)
            # SQLite does not tell the expressions of an index.
            if "uq_measurements_point" not in str(d) and "ix_packs_waiting" not in str(d)
        ]
    assert differences == []


def test_a_backup_made_while_the_stack_works_is_restored_whole(filled: Database, tmp_path: Path) -> None:
    """With the very commands that docs/operations.md names."""
    before = contents(filled)
    manual = OPERATIONS.read_text()
    url = make_url(str(filled.engine.url))
    if filled.is_sqlite:
        assert "VACUUM INTO" in manual
        backup = tmp_path / "backup.db"
        with filled.writing() as session:  # a writer is in the middle of something
            session.execute(text("UPDATE packs SET step = step"))
            sqlite3.connect(url.database).execute(f"VACUUM INTO '{backup}'").connection.close()
        restored = open_database(f"sqlite:///{backup}")
    else:
        assert "pg_dump --format=custom" in manual
        assert "pg_restore --clean --if-exists --no-owner" in manual
        backup = tmp_path / "bfc.dump"
        where = ["--host", url.host, "--port", str(url.port), "--username", url.username]
        subprocess.run(
            ["pg_dump", "--format=custom", *where, "--file", str(backup), url.database], check=True
        )
        restored = open_database(_new_database(url).render_as_string(hide_password=False))
        target = str(restored.engine.url.database)
        restore = [
            "pg_restore",
            "--clean",
            "--if-exists",
            "--no-owner",
            *where,
            "--dbname",
            target,
            str(backup),
        ]
        subprocess.run(restore, check=True)
    try:
        assert contents(restored) == before
        assert current_revision(restored) == newest_revision()
        # And it works: what was queued is claimed, what was finished is there.
        for api in serve(settings_for(restored.engine.url.render_as_string(hide_password=False), tmp_path)):
            while (claim := api.claim()) is not None:
                api.finish(claim)
            [paused] = [e for e in api.get("/v1/experiments").json()["items"] if e["name"] == "paused"]
            api.client.post(f"{paused['links']['self']}/resume")
            api.finish_all()
            assert {e["status"] for e in api.get("/v1/experiments").json()["items"]} == {"succeeded"}
        with restored.reading() as session:
            assert session.scalar(select(func.count()).select_from(Report)) == 32
    finally:
        restored.dispose()
        if not filled.is_sqlite:
            _drop(restored.engine.url)


def _new_database(url: URL) -> URL:
    made = url.set(database=f"bfc_test_{uuid4().hex[:12]}")
    server = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {made.database}"))
    server.dispose()
    return made


def _drop(url: URL) -> None:
    server = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE {url.database} WITH (FORCE)"))
    server.dispose()
