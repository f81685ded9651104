"""The store as a bucket of anything that speaks S3."""

from collections.abc import Iterator
from typing import Any, cast

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import S3Store

from service.config import Settings
from service.store.base import CHUNK_BYTES, KeyTakenError, StoreUnavailableError, checked

_RETRIES = 2


class BucketStore:
    """Objects under a prefix of a bucket, each created by one conditional PUT (``If-None-Match: *``)."""

    def __init__(self, bucket: str, prefix: str, settings: Settings) -> None:
        self._bucket, self._prefix = bucket, prefix
        key, secret = settings.store_access_key_id, settings.store_secret_access_key
        seconds = f"{settings.store_timeout.total_seconds():g}s"
        # What is not given here the library takes from AWS_… and the machine's own role.
        config: dict[str, Any] = {}
        if settings.store_endpoint:
            config["endpoint"] = settings.store_endpoint
        if key is not None:
            config["access_key_id"] = key.get_secret_value()
        if secret is not None:
            config["secret_access_key"] = secret.get_secret_value()
        self._store = S3Store(
            bucket,
            prefix=prefix or None,
            config=cast("Any", config),
            region=settings.store_region,
            virtual_hosted_style_request=False,
            client_options={
                "allow_http": settings.store_endpoint.startswith("http://"),
                "timeout": seconds,
                "connect_timeout": seconds,
            },
            retry_config={"max_retries": _RETRIES, "retry_timeout": settings.store_timeout},
        )

    @property
    def place(self) -> str:
        """Bucket and prefix."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def put(self, key: str, content: bytes) -> None:
        """Create the object in one request."""
        try:
            obstore.put(self._store, checked(key), content, mode="create", use_multipart=False)
        except (AlreadyExistsError, PreconditionError):
            # Ours, where the answer to the first try was lost.
            if self.get(key) != content:
                raise KeyTakenError(key) from None
        except (BaseError, OSError) as error:
            raise self._away(error) from error

    def get(self, key: str) -> bytes | None:
        """Read the object."""
        try:
            return bytes(obstore.get(self._store, checked(key)).bytes())
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise self._away(error) from error

    def stream(self, key: str) -> Iterator[bytes] | None:
        """Begin to read the object."""
        try:
            found = obstore.get(self._store, checked(key)).stream(min_chunk_size=CHUNK_BYTES)
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise self._away(error) from error
        return (bytes(piece) for piece in found)

    def folders(self, prefix: str) -> list[str]:
        """List with the delimiter; one request a thousand names."""
        try:
            found = obstore.list_with_delimiter(self._store, f"{checked(prefix)}/")
        except (BaseError, OSError) as error:
            raise self._away(error) from error
        return sorted(name.rstrip("/").rpartition("/")[2] for name in found["common_prefixes"])

    def keys(self, prefix: str) -> list[str]:
        """List everything below."""
        try:
            return sorted(
                entry["path"]
                for entries in obstore.list(self._store, f"{checked(prefix)}/")
                for entry in entries
            )
        except (BaseError, OSError) as error:
            raise self._away(error) from error

    def delete(self, prefix: str) -> None:
        """Delete the object of this key and those below it."""
        found = [prefix, *self.keys(prefix)]
        try:
            obstore.delete(self._store, found)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise self._away(error) from error

    def _away(self, error: Exception) -> StoreUnavailableError:
        # The library's text goes on with internals; its first lines say what happened, none has credentials.
        return StoreUnavailableError(f"{self.place} cannot be used: {str(error).splitlines()[0][:300]}")
