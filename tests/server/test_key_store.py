"""Keys in a file: made, replaced, revoked; no secret is in it, and nothing wrong with it lets anyone in."""

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hexgrid.errors import ConfigError, KeyStoreError
from hexgrid.server.key_store import KeyStore, Limits, StoredKey, prefix_of

LIMITS = Limits(frozenset({"a", "b"}), rpm=10, tpm=2_000, max_concurrency=3)


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "new" / "keys.sqlite3")


def only(store: KeyStore) -> StoredKey:
    (key,) = store.read()
    return key


def test_a_key_is_found_by_its_prefix_and_fits_no_other(store: KeyStore) -> None:
    key = store.create("search", LIMITS)

    stored = only(store)
    assert (stored.name, stored.limits, stored.expires) == ("search", LIMITS, None)
    assert stored.prefix == prefix_of(key)
    assert stored.fits(key)
    assert not stored.fits(key[:-1] + ("a" if key[-1] != "a" else "b"))
    assert not stored.fits("")
    assert stored.state(time.time()) == "valid"


def test_every_key_is_another_and_long(store: KeyStore) -> None:
    keys = {store.create(f"{number}", Limits()) for number in range(20)}

    assert len(keys) == 20
    assert len({prefix_of(key) for key in keys}) == 20
    assert all(len(key.split("_")[2]) == 43 for key in keys)


def test_the_file_holds_no_key_and_is_its_owners_alone(store: KeyStore) -> None:
    key = store.create("search", Limits())

    assert store.file.stat().st_mode & 0o077 == 0
    secret = key.split("_")[2].encode()
    for file in store.file.parent.iterdir():
        assert secret not in file.read_bytes()


def test_equal_secrets_would_not_look_alike(store: KeyStore) -> None:
    store.create("one", Limits())
    store.create("other", Limits())

    one, other = store.read()
    assert one.salt != other.salt


@pytest.mark.parametrize(("lifetime", "state"), [(None, "valid"), (60, "valid"), (-1, "expired")])
def test_a_key_ends_when_it_was_made_to(
    store: KeyStore, lifetime: float | None, state: str
) -> None:
    store.create("search", Limits(), lifetime=lifetime)

    assert only(store).state(time.time()) == state


def test_replacing_a_key_leaves_the_old_one_its_grace_time_and_no_more(store: KeyStore) -> None:
    old = store.create("search", LIMITS, lifetime=1_000)
    new = store.rotate("search", grace=50, lifetime=500)

    first, second = store.read()
    now = time.time()
    assert (first.fits(old), second.fits(new)) == (True, True)
    assert (first.limits, second.limits) == (LIMITS, LIMITS)
    assert first.expires is not None
    assert now + 40 < first.expires <= now + 50
    assert second.expires is not None
    assert now + 400 < second.expires

    store.rotate("search", grace=90)

    assert store.read()[0].expires == first.expires  # no later than it was


def test_revoking_ends_all_keys_of_a_name_and_no_others(store: KeyStore) -> None:
    store.create("search", Limits())
    store.create("other", Limits())
    store.rotate("search", grace=1_000)

    store.revoke("search")

    states = {(key.name, key.state(time.time())) for key in store.read()}
    assert states == {("search", "revoked"), ("other", "valid")}


def test_a_name_is_taken_once_and_for_all(store: KeyStore) -> None:
    store.create("search", Limits())
    with pytest.raises(ConfigError, match="There is a key named 'search' already"):
        store.create("search", Limits())
    store.revoke("search")
    with pytest.raises(ConfigError, match="There is a key named 'search' already"):
        store.create("search", Limits())
    assert len(store.read()) == 1


@pytest.mark.parametrize("name", ["", "  ", "a" * 101, "a\nb", "\x1b[31m"])
def test_a_name_must_be_one(store: KeyStore, name: str) -> None:
    with pytest.raises(ConfigError, match="--name must be 1 to 100 printable characters"):
        store.create(name, Limits())


@pytest.mark.parametrize("change", [lambda s: s.rotate("x", grace=1), lambda s: s.revoke("x")])
def test_who_is_not_there_or_revoked_cannot_be_changed(
    store: KeyStore, change: Callable[[KeyStore], object]
) -> None:
    store.create("other", Limits())
    with pytest.raises(ConfigError, match="There is no key named 'x'"):
        change(store)
    store.create("x", Limits())
    store.revoke("x")
    with pytest.raises(ConfigError, match="is revoked, which cannot be taken back"):
        change(store)


def test_a_store_that_is_not_there_is_an_error(store: KeyStore) -> None:
    with pytest.raises(KeyStoreError, match="is not there; `hexgrid keys create` makes it"):
        store.read()
    assert not store.file.exists()


@pytest.mark.parametrize(
    "content", [b"no database at all, but text" * 100, b"SQLite format 3\0junk"]
)
def test_a_file_of_another_kind_is_refused_and_left_alone(store: KeyStore, content: bytes) -> None:
    store.file.parent.mkdir()
    store.file.write_bytes(content)

    for use in (store.read, lambda: store.create("search", Limits())):
        with pytest.raises(KeyStoreError, match=r"keys\.sqlite3"):
            use()
    assert store.file.read_bytes() == content


def test_a_database_of_another_program_is_refused(store: KeyStore) -> None:
    store.file.parent.mkdir()
    database = sqlite3.connect(store.file)
    database.execute("CREATE TABLE theirs (x)")
    database.close()

    with pytest.raises(KeyStoreError, match="is no key store of this version"):
        store.create("search", Limits())


def test_a_broken_page_is_an_error(store: KeyStore) -> None:
    for number in range(200):
        store.create(f"{number}", Limits())
    data = bytearray(store.file.read_bytes())
    data[4096 : len(data)] = b"\xff" * (len(data) - 4096)
    store.file.write_bytes(data)

    with pytest.raises(KeyStoreError, match="cannot be used"):
        store.read()


def test_a_store_that_is_locked_is_an_error_and_nothing_is_changed(
    store: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hexgrid.server.key_store._BUSY_SECONDS", 0.01)
    store.create("search", Limits())
    other = sqlite3.connect(store.file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(KeyStoreError, match="locked"):
            store.revoke("search")
        assert only(store).revoked is None  # readers do not wait for writers
    finally:
        other.close()
    store.revoke("search")


def test_many_writers_lose_nothing(store: KeyStore) -> None:
    store.create("first", Limits())

    def write(writer: int) -> None:
        for number in range(10):
            store.create(f"{writer}/{number}", Limits())

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len({key.prefix for key in store.read()}) == 41


CRASHING = """
import sys
from pathlib import Path
from hexgrid.server.key_store import KeyStore, Limits

store = KeyStore(Path(sys.argv[1]))
print("ready", flush=True)
for number in range(10**9):
    print(store.create(f"{sys.argv[2]}/{number}", Limits()), flush=True)
"""


def test_killed_writers_lose_no_key_that_they_told(store: KeyStore) -> None:
    told: list[str] = []
    num_kills = 4
    for kill in range(num_kills):
        command = [sys.executable, "-c", CRASHING, str(store.file), str(kill)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            for number, line in enumerate(process.stdout):
                if line.endswith("\n"):
                    told.append(line.strip())
                if number == 5 + 3 * kill:
                    process.send_signal(signal.SIGKILL)

    by_prefix = {key.prefix: key for key in store.read()}
    assert all(by_prefix[prefix_of(key)].fits(key) for key in told)
    assert len(told) <= len(by_prefix) <= len(told) + num_kills  # the last one was perhaps not told
    store.create("after", Limits())


FULL_DISK = """
import resource, sys
from pathlib import Path
from hexgrid.errors import KeyStoreError
from hexgrid.server.key_store import KeyStore, Limits, connect, read_keys

store = KeyStore(Path(sys.argv[1]))
print(store.create("before", Limits()))
if sys.argv[2] == "followed":
    server = connect(store.file)
    read_keys(server)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
try:
    store.create("meanwhile", Limits())
except KeyStoreError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, resource.RLIM_INFINITY))
print(store.create("after", Limits()))
"""


@pytest.mark.parametrize("by", ["nobody", "followed"])
def test_a_full_disk_takes_no_key_and_keeps_the_others(store: KeyStore, by: str) -> None:
    """Without a server that follows the file it cannot even be opened; with one it cannot be written."""
    command = [sys.executable, "-c", FULL_DISK, str(store.file), by]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr

    before, error, after = done.stdout.splitlines()
    assert error.startswith(f"The key store {store.file} cannot be used: ")
    first, second = store.read()
    assert (first.name, first.fits(before)) == ("before", True)
    assert (second.name, second.fits(after)) == ("after", True)


@pytest.mark.parametrize("key", ["", "hg", "hg_abc", "sk_abcdefgh_x", "hg_a_b_c"])
def test_what_is_no_key_has_no_prefix(key: str) -> None:
    assert prefix_of(key) == ""
