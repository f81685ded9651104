import json

import pytest

from bfc_client.discovery import STATE_FILE, url_of
from bfc_client.errors import InvalidSettings, ServerNotFound
from bfc_client.settings import ClientSettings, environment_of_a_stack, read_settings


def test_the_environment_is_read():
    settings = read_settings(
        {"BFC_URL": "http://h:1", "BFC_TOKEN": "t", "BFC_DATA_DIR": "d", "BFC_TIMEOUT": "3"}
    )
    assert (settings.url, settings.token, str(settings.data_dir), settings.timeout_seconds) == (
        "http://h:1",
        "t",
        "d",
        3.0,
    )


def test_empty_values_are_no_values():
    assert read_settings({"BFC_URL": "", "BFC_TOKEN": "", "BFC_TIMEOUT": ""}) == ClientSettings()


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "inf", "soon"])
def test_a_timeout_that_is_none_is_refused(timeout):
    with pytest.raises(InvalidSettings, match="BFC_TIMEOUT"):
        read_settings({"BFC_TIMEOUT": timeout})


def test_the_address_that_was_given_comes_before_the_stack(tmp_path):
    (tmp_path / STATE_FILE).write_text(json.dumps({"url": "http://127.0.0.1:2"}))
    assert url_of(ClientSettings(data_dir=tmp_path)) == "http://127.0.0.1:2"
    assert url_of(ClientSettings(url="http://h:1", data_dir=tmp_path)) == "http://h:1"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"url": 3}', '{"url": "file:///etc/passwd"}'])
def test_a_torn_state_file_is_no_stack(tmp_path, content):
    (tmp_path / STATE_FILE).write_text(content)
    with pytest.raises(ServerNotFound, match="bfc up"):
        url_of(ClientSettings(data_dir=tmp_path))


def test_a_stack_does_not_inherit_the_database_of_another_deployment(monkeypatch):
    monkeypatch.setenv("BFC_DATABASE_URL", "postgresql+psycopg://production")
    monkeypatch.setenv("BFC_CRASH_LIMIT", "5")
    inherited = environment_of_a_stack()
    assert "BFC_DATABASE_URL" not in inherited
    assert inherited["BFC_CRASH_LIMIT"] == "5"
