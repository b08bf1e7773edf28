"""The keys of a store as a running server knows them: in memory, and no older than a second."""

import logging
import sqlite3
import threading
from pathlib import Path

from hexgrid.errors import KeyStoreError
from hexgrid.server.key_store import StoredKey, connect, prefix_of, read_keys

_POLL_SECONDS = 0.5

_logger = logging.getLogger(__name__)


class FollowedStore:
    """Reads the store once, and again whenever it has changed, from a thread of its own.

    While it cannot be read, it lets nobody in: a key that was revoked meanwhile would pass.
    """

    def __init__(self, file: Path, *, poll_seconds: float = _POLL_SECONDS) -> None:
        """Raises:
        KeyStoreError: the store cannot be read.
        """
        self._file = file
        self._poll_seconds = poll_seconds
        self._database: sqlite3.Connection | None = None
        self._seen: tuple[int, ...] = ()
        self._failed = False
        self._keys: dict[str, StoredKey] = {}
        self._refresh()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="hexgrid-keys", daemon=True)
        self._thread.start()

    def find(self, key: str) -> StoredKey | None:
        """The stored key of the same prefix, whatever its secret and state.

        Raises:
            KeyStoreError: the store cannot be read at the moment.
        """
        if self._failed:
            raise KeyStoreError("Keys cannot be checked at the moment; the server's log says more")
        return self._keys.get(prefix_of(key))

    def named(self, name: str) -> list[StoredKey]:
        """All stored keys of that name, whatever their state; raises like `find`."""
        if self._failed:
            raise KeyStoreError("Keys cannot be checked at the moment; the server's log says more")
        return [key for key in self._keys.values() if key.name == name]

    def close(self) -> None:
        """Follow it no longer."""
        self._stop.set()
        self._thread.join()
        self._disconnect()

    def _follow(self) -> None:
        while not self._stop.wait(self._poll_seconds):
            try:
                self._refresh()
            except KeyStoreError as error:
                if not self._failed:
                    _logger.error("%s. Until then its keys let nobody in", error)  # noqa: TRY400
                self._failed = True
                self._disconnect()
            else:
                if self._failed:
                    _logger.info("The key store %s can be read again", self._file)
                self._failed = False

    def _refresh(self) -> None:
        """Read the keys if anything has been written since the last time."""
        try:
            state = self._file.stat()
            of_file = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
            if self._database is None or of_file != self._seen[:-1]:
                self._disconnect()
                self._database = connect(self._file)
            (version,) = self._database.execute("PRAGMA data_version").fetchone()
            if (*of_file, version) != self._seen:
                self._keys = {key.prefix: key for key in read_keys(self._database)}
                self._seen = (*of_file, version)
        except FileNotFoundError:
            raise KeyStoreError(f"The key store {self._file} is not there") from None
        except (OSError, sqlite3.Error) as error:
            raise KeyStoreError(f"The key store {self._file} cannot be read: {error}") from error

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        self._seen = ()
