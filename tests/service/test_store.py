"""The store of files: the same contract for a folder and for a bucket on a real S3 server."""

import pytest

from service.config import Settings
from service.store.base import KeyTakenError, StoreUnavailableError
from service.store.opening import open_store, probe


@pytest.fixture(params=["folder", "bucket"])
def settings(request: pytest.FixtureRequest, tmp_path) -> Settings:
    if request.param == "bucket":
        return Settings.model_validate(request.getfixturevalue("bucket"))
    return Settings.model_validate({"store_url": (tmp_path / "a store").as_uri()})


def test_a_key_is_written_once_and_whole(settings) -> None:
    store = open_store(settings)
    store.put("packs/1/ab/00000001/step-1.pt", b"first")
    store.put("packs/1/ab/00000001/step-1.pt", b"first")
    with pytest.raises(KeyTakenError):
        store.put("packs/1/ab/00000001/step-1.pt", b"second")
    assert store.get("packs/1/ab/00000001/step-1.pt") == b"first"
    big = bytes(range(256)) * 4096
    store.put("artifacts/big", big)
    assert b"".join(store.stream("artifacts/big")) == big
    assert store.get("artifacts/none") is None
    assert store.stream("artifacts/none") is None


def test_lists_and_deletes_what_lies_under_a_prefix(settings) -> None:
    store = open_store(settings)
    assert store.folders("packs") == store.keys("packs") == []
    for key in ("packs/1/a/x", "packs/1/b/y", "packs/10/a/x"):
        store.put(key, key.encode())
    assert store.folders("packs") == ["1", "10"]
    assert store.keys("packs/1") == ["packs/1/a/x", "packs/1/b/y"]
    store.delete("packs/1")
    store.delete("packs/1")
    assert store.keys("packs") == ["packs/10/a/x"]
    probe(store)
    assert store.keys("probes") == []


@pytest.mark.parametrize(
    "key", ["../x", "/etc/passwd", "a//b", "a/../b", ".hidden", "a\\b", "a b", "", "a/", "é"]
)
def test_what_is_no_plain_path_is_no_key(settings, key) -> None:
    store = open_store(settings)
    with pytest.raises(ValueError, match="no key of the store"):
        store.put(key, b"")
    with pytest.raises(ValueError, match="no key of the store"):
        store.get(key)


def test_a_store_that_is_away_says_so_without_credentials(bucket, tmp_path) -> None:
    away = Settings.model_validate(bucket | {"store_endpoint": "http://127.0.0.1:9", "store_timeout": "1"})
    with pytest.raises(StoreUnavailableError) as caught:
        open_store(away).put("a", b"")
    assert bucket["store_url"] in str(caught.value)
    assert "correcthorse" not in f"{caught.value} {away!r} {away}"
    (tmp_path / "file").write_text("no folder")
    blocked = Settings.model_validate({"store_url": (tmp_path / "file").as_uri()})
    with pytest.raises(StoreUnavailableError):
        probe(open_store(blocked))


@pytest.mark.parametrize("url", ["ftp://x/y", "s3://", "file://host/x", "bucket"])
def test_other_addresses_are_refused(url) -> None:
    with pytest.raises(ValueError, match="BFC_STORE_URL"):
        open_store(Settings(store_url=url))


def test_a_store_that_writes_over_what_is_there_is_found_out(tmp_path, monkeypatch) -> None:
    """As a server that does not know conditional writes: it answers that all is well."""
    store = open_store(Settings(data_dir=tmp_path))
    monkeypatch.setattr("service.store.folder.os.link", lambda old, new: new.write_bytes(old.read_bytes()))
    with pytest.raises(StoreUnavailableError, match="writes over"):
        probe(store)
