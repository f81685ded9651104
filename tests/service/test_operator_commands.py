"""``python -m service.api_keys`` and the settings of every process: mistakes are said in words, without secrets."""

import runpy
from pathlib import Path

import pytest

from service.api_keys.__main__ import main
from service.config import Settings, read_settings
from tests.service.conftest import migrated

PASSWORD = "correct-horse"


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'bfc.db'}"
    migrated(url)
    monkeypatch.setenv("BFC_DATABASE_URL", url)


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["--owner", "ada", "--days", "-1"], "--days"),
        (["--owner", "ada", "--days", "nan"], "--days"),
        (["--owner", "ada", "--days", "1e30"], "--days"),
        (["--owner", ""], "--owner"),
        (["--owner", 201 * "a"], "--owner"),
        (["--owner", "ada", "--name", "two\nlines"], "--name"),
    ],
)
def test_a_key_has_the_limits_that_it_has_over_http(
    database: None, capsys: pytest.CaptureFixture[str], arguments: list[str], option: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["create", *arguments])
    assert ended.value.code == 2
    assert f"error: {option}: " in capsys.readouterr().err
    assert main(["list"]) == 0
    assert capsys.readouterr().out == ""


def test_a_key_is_made_and_listed(database: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["create", "--owner", "ada", "--scope", "read", "--days", "2"]) == 0
    assert capsys.readouterr().out.startswith("bfc_")
    assert main(["list"]) == 0
    assert "  ada  read  expires 2" in capsys.readouterr().out


@pytest.mark.parametrize("url", ["sqlite:///{folder}/empty.db", "sqlite:///{folder}/no/such.db", "nonsense"])
def test_a_database_that_cannot_be_used_is_said_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, url: str
) -> None:
    monkeypatch.setenv("BFC_DATABASE_URL", url.format(folder=tmp_path))
    assert main(["create", "--owner", "ada"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("the database cannot be used: ")
    assert "python -m migrations" in said.err


def test_a_database_that_cannot_be_migrated_is_said_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("BFC_DATABASE_URL", f"sqlite:///{tmp_path}/no/such.db")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("migrations", run_name="__main__")
    assert ended.value.code == 1
    assert (
        capsys.readouterr().err == "the database cannot be brought up to date: unable to open database file\n"
    )


def test_settings_that_are_wrong_are_named_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BFC_DATABASE_URL", f"postgresql+psycopg://bfc:{PASSWORD}@db/bfc")
    monkeypatch.setenv("BFC_CONCURRENCY", "many")
    with pytest.raises(SystemExit) as ended:
        read_settings()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("BFC_CONCURRENCY: Input should be a valid integer")
    monkeypatch.setenv("BFC_CONCURRENCY", "1")
    monkeypatch.setenv("BFC_LEASE", "1")
    with pytest.raises(ValueError, match="lease must be at least twice") as refused:
        Settings()
    assert PASSWORD not in str(refused.value)
    assert "input_value" not in str(refused.value)


def test_a_limit_under_its_old_name_is_not_overlooked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BFC_KERNEL_MEMORY_LIMIT_BYTES", "1000")
    with pytest.raises(SystemExit) as ended:
        read_settings()
    assert ended.value.code == 2
    assert "BFC_PACK_MEMORY_LIMIT_BYTES" in capsys.readouterr().err
