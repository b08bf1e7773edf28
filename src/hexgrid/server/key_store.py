"""Keys that have a name, an end and limits, in one SQLite file that running servers follow.

The rules:
1. A key is `hg_PREFIX_SECRET`. The prefix finds it and may be shown; the secret has 256 random bits and is
   shown once. The file holds a salted digest of it: slow hashing is for secrets that can be guessed.
2. Limits belong to a name. A name has several keys only while an old one is replaced (`rotate`).
3. Whatever is wrong with the file is an error of its own, and lets nobody in.
"""

import hashlib
import hmac
import json
import secrets
import sqlite3
import string
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hexgrid.errors import ConfigError, KeyStoreError

_FORM = 1  # of the tables; in the file's user_version
_TABLES = """
CREATE TABLE names (
    name TEXT PRIMARY KEY, created INTEGER NOT NULL, revoked INTEGER,
    models TEXT, rpm INTEGER, tpm INTEGER, max_concurrency INTEGER
) STRICT;
CREATE TABLE keys (
    prefix TEXT PRIMARY KEY, name TEXT NOT NULL REFERENCES names, salt BLOB NOT NULL, digest BLOB NOT NULL,
    created INTEGER NOT NULL, expires INTEGER
) STRICT;
"""
_LETTERS = string.ascii_letters + string.digits
_PREFIX_LENGTH, _SECRET_LENGTH, _SALT_BYTES = 8, 43, 16
_BUSY_SECONDS = 5.0  # that a writer waits for another one
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Limits:
    """What a name may use; None: no limit of its own."""

    models: frozenset[str] | None = None  # served names
    rpm: int | None = None  # requests a minute
    tpm: int | None = None  # tokens a minute
    max_concurrency: int | None = None  # requests at a time


@dataclass(frozen=True)
class StoredKey:
    """One key and the name that it belongs to; times are Unix seconds."""

    name: str
    prefix: str
    salt: bytes
    digest: bytes
    created: int
    expires: int | None
    revoked: int | None
    limits: Limits

    def state(self, now: float) -> str:
        """valid, expired or revoked."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "valid"

    def fits(self, key: str) -> bool:
        """Whether `key` is this one; takes the same time whatever is wrong about it."""
        return hmac.compare_digest(self.digest, _digest(key, self.salt))


class KeyStore:
    """The file. Every method opens it anew and raises KeyStoreError where it cannot do its work."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def create(self, name: str, limits: Limits, *, lifetime: float | None = None) -> str:
        """A new name and its key, good for `lifetime` seconds; the file is made where it is not there.

        Raises:
            ConfigError: the name is taken, or is none.
        """
        if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
            raise ConfigError(
                f"--name must be 1 to {_LONGEST_NAME} printable characters, got {name!r}"
            )
        models = None if limits.models is None else json.dumps(sorted(limits.models))
        with self._opened(create=True) as database:
            if database.execute("SELECT 1 FROM names WHERE name = ?", (name,)).fetchone():
                raise ConfigError(
                    f"There is a key named {name!r} already; `hexgrid keys rotate` replaces it"
                )
            database.execute(
                "INSERT INTO names VALUES (?, ?, NULL, ?, ?, ?, ?)",
                (name, _now(), models, limits.rpm, limits.tpm, limits.max_concurrency),
            )
            return _add_key(database, name, lifetime)

    def rotate(self, name: str, *, grace: float, lifetime: float | None = None) -> str:
        """Another key for `name`; those that it has end after `grace` seconds.

        Raises:
            ConfigError: there is no such name, or it is revoked.
        """
        with self._opened() as database:
            _require(database, name)
            end = _now() + int(grace)
            database.execute(
                "UPDATE keys SET expires = min(coalesce(expires, ?), ?) WHERE name = ?",
                (end, end, name),
            )
            return _add_key(database, name, lifetime)

    def revoke(self, name: str) -> None:
        """Let no key of `name` in any more, for ever.

        Raises:
            ConfigError: there is no such name, or it is revoked already.
        """
        with self._opened() as database:
            _require(database, name)
            database.execute("UPDATE names SET revoked = ? WHERE name = ?", (_now(), name))

    def read(self) -> list[StoredKey]:
        """All of them, in the order in which they were made."""
        with self._opened(begin="BEGIN") as database:
            return read_keys(database)

    @contextmanager
    def _opened(
        self, *, create: bool = False, begin: str = "BEGIN IMMEDIATE"
    ) -> Iterator[sqlite3.Connection]:
        """A transaction that is written at its end, or not at all."""
        with closing(connect(self.file, create=create)) as database:
            try:
                database.execute(begin)
                yield database
                database.execute("COMMIT")
            except sqlite3.Error as error:
                raise _unusable(self.file, error) from error


def connect(file: Path, *, create: bool = False) -> sqlite3.Connection:
    """The store's database.

    Raises:
        KeyStoreError: it is not there (and is not to be made), cannot be opened, or is none of ours.
    """
    if not create and not file.is_file():
        raise KeyStoreError(
            f"The key store {file} is not there; `hexgrid keys create` makes it, --key-store names it"
        )
    try:
        if create:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch(mode=0o600, exist_ok=True)
        database = sqlite3.connect(
            f"{file.resolve().as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS,
            isolation_level=None, check_same_thread=False,
        )  # fmt: skip
    except (OSError, sqlite3.Error) as error:
        raise _unusable(file, error) from error
    try:
        _prepare(database, file, create=create)
    except sqlite3.Error as error:
        database.close()
        raise _unusable(file, error) from error
    except KeyStoreError:
        database.close()
        raise
    return database


def read_keys(database: sqlite3.Connection) -> list[StoredKey]:
    """All keys, in the order in which they were made.

    Raises:
        sqlite3.Error: they cannot be read.
    """
    rows = database.execute(
        "SELECT name, prefix, salt, digest, keys.created, expires, revoked, models, rpm, tpm, "
        "max_concurrency FROM keys JOIN names USING (name) ORDER BY keys.rowid"
    )
    return [_stored_key(*row) for row in rows]


def prefix_of(key: str) -> str:
    """What finds a key in the store; nothing, if it is none of its form."""
    parts = key.split("_")
    return parts[1] if len(parts) == 3 and parts[0] == "hg" else ""


def _prepare(database: sqlite3.Connection, file: Path, *, create: bool) -> None:
    (form,) = database.execute("PRAGMA user_version").fetchone()
    (num_tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if create and form == 0 and num_tables == 0:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {_FORM}; COMMIT;")
    elif form != _FORM:
        raise KeyStoreError(
            f"{file} is no key store of this version of hexgrid (its form is {form}, not {_FORM})"
        )


def _require(database: sqlite3.Connection, name: str) -> None:
    row = database.execute("SELECT revoked FROM names WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise ConfigError(f"There is no key named {name!r}; `hexgrid keys list` shows all")
    if row[0] is not None:
        raise ConfigError(f"The key named {name!r} is revoked, which cannot be taken back")


def _add_key(database: sqlite3.Connection, name: str, lifetime: float | None) -> str:
    prefix, secret = (
        "".join(secrets.choice(_LETTERS) for _ in range(length))
        for length in (_PREFIX_LENGTH, _SECRET_LENGTH)
    )
    key, salt = f"hg_{prefix}_{secret}", secrets.token_bytes(_SALT_BYTES)
    expires = None if lifetime is None else _now() + int(lifetime)
    database.execute(
        "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?)",
        (prefix, name, salt, _digest(key, salt), _now(), expires),
    )
    return key


def _stored_key(*row: Any) -> StoredKey:
    name, prefix, salt, digest, created, expires, revoked, models, rpm, tpm, concurrency = row
    allowed = None if models is None else frozenset(json.loads(models))
    limits = Limits(allowed, rpm, tpm, concurrency)
    return StoredKey(name, prefix, salt, digest, created, expires, revoked, limits)


def _digest(key: str, salt: bytes) -> bytes:
    return hashlib.blake2b(key.encode(errors="surrogateescape"), salt=salt).digest()


def _now() -> int:
    return int(time.time())


def _unusable(file: Path, error: Exception) -> KeyStoreError:
    return KeyStoreError(f"The key store {file} cannot be used: {error}")
