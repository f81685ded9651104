"""Which store the settings name, and whether it works."""

import uuid
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from service.config import Settings
from service.store.base import KeyTakenError, Store, StoreUnavailableError
from service.store.folder import FolderStore


def open_store(settings: Settings) -> Store:
    """Open the store of ``store_url``; where there is none, a folder in the data folder.

    Raises:
        ValueError: the address is none, or S3 is asked for and its library is not installed.
    """
    if not settings.store_url:
        return FolderStore(settings.data_dir / "store")
    parts = urlsplit(settings.store_url)
    if parts.scheme == "file" and not parts.netloc and parts.path:
        return FolderStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        try:
            from service.store.bucket import BucketStore  # noqa: PLC0415 - the library is an extra
        except ModuleNotFoundError as error:
            raise ValueError("BFC_STORE_URL names a bucket: pip install 'bfc[s3]'") from error
        return BucketStore(parts.netloc, parts.path.strip("/"), settings)
    raise ValueError("BFC_STORE_URL must be file:///folder or s3://bucket/prefix")


def is_shared(settings: Settings) -> bool:
    """Whether checkpoints go to the store: it is one that other machines may see."""
    return bool(settings.store_url)


def probe(store: Store) -> None:
    """Write, read and delete one small key, and see that it is not written over.

    Raises:
        StoreUnavailableError: one of them failed.
    """
    key, content = f"probes/{uuid.uuid4().hex}", b"bfc"
    store.put(key, content)
    try:
        if store.get(key) != content:
            raise StoreUnavailableError(f"{store.place} answers other bytes than were written")
        with suppress(KeyTakenError):
            store.put(key, b"other")
            raise StoreUnavailableError(
                f"{store.place} writes over what is there: it must know If-None-Match"
            )
    finally:
        store.delete(key)
