"""The store as a folder, of this machine or one that machines share."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from service.store.base import CHUNK_BYTES, KeyTakenError, StoreUnavailableError, checked


class FolderStore:
    """Files under ``root``; a file appears whole, after its bytes are on the disk."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    @property
    def place(self) -> str:
        """The folder."""
        return self._root.as_uri()

    def put(self, key: str, content: bytes) -> None:
        """Write to a temporary name, flush, then give it its name unless that is taken."""
        path = self._path(key)
        temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                # A link fails where the name is taken; a rename would replace what is there.
                os.link(temporary, path)
            except FileExistsError:
                if path.read_bytes() != content:
                    raise KeyTakenError(key) from None
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise self._away(error) from error

    def get(self, key: str) -> bytes | None:
        """Read the file."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._away(error) from error

    def stream(self, key: str) -> Iterator[bytes] | None:
        """Open the file and read it in pieces."""
        try:
            file = self._path(key).open("rb")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._away(error) from error

        def pieces() -> Iterator[bytes]:
            with file:
                while piece := file.read(CHUNK_BYTES):
                    yield piece

        return pieces()

    def folders(self, prefix: str) -> list[str]:
        """Folders in the folder."""
        try:
            return sorted(entry.name for entry in self._path(prefix).iterdir() if entry.is_dir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._away(error) from error

    def keys(self, prefix: str) -> list[str]:
        """Files in the folder and below; those that are being written have no key yet."""
        return sorted(
            path.relative_to(self._root).as_posix()
            for path in self._path(prefix).rglob("*")
            if path.is_file() and not path.name.startswith(".")
        )

    def delete(self, prefix: str) -> None:
        """Delete the file or the folder, and folders that are empty then."""
        path = self._path(prefix)
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._away(error) from error
        for parent in path.parents:
            if parent == self._root:
                return
            with suppress(OSError):
                parent.rmdir()

    def _path(self, key: str) -> Path:
        return self._root / checked(key)

    def _away(self, error: OSError) -> StoreUnavailableError:
        return StoreUnavailableError(f"the store's folder cannot be used: {error.strerror or error}")
