"""A running server's view of the store: follows every change, and lets nobody in while it is blind."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hexgrid.errors import KeyStoreError
from hexgrid.server.followed_store import FollowedStore
from hexgrid.server.key_store import KeyStore, Limits
from tests.server.running import DEADLINE

POLL = 0.002


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys.sqlite3")


@pytest.fixture
def first(store: KeyStore) -> str:
    return store.create("first", Limits())


@pytest.fixture
def followed(store: KeyStore, first: str) -> Iterator[FollowedStore]:
    del first
    followed = FollowedStore(store.file, poll_seconds=POLL)
    yield followed
    followed.close()


def wait_until(condition: Callable[[], bool]) -> None:
    """Return when `condition` holds: what the store's own thread does in its time."""
    pause = threading.Event()
    for _ in range(int(DEADLINE / POLL)):
        if condition():
            return
        pause.wait(POLL)
    raise AssertionError("it never came to that")


def refuses(followed: FollowedStore, key: str) -> bool:
    try:
        followed.find(key)
    except KeyStoreError:
        return True
    return False


def test_keys_are_known_at_once(followed: FollowedStore, first: str) -> None:
    found = followed.find(first)

    assert found is not None
    assert (found.name, found.fits(first)) == ("first", True)
    assert followed.find("hg_aaaaaaaa_b") is None
    assert followed.find("anything") is None


def test_what_is_changed_is_seen(store: KeyStore, followed: FollowedStore, first: str) -> None:
    second = store.create("second", Limits(rpm=5))
    wait_until(lambda: followed.find(second) is not None)

    store.revoke("first")

    def is_revoked() -> bool:
        found = followed.find(first)
        return found is not None and found.revoked is not None

    wait_until(is_revoked)


def test_a_store_that_is_gone_lets_nobody_in_until_it_is_back(
    store: KeyStore, followed: FollowedStore, first: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = store.file.read_bytes()
    for file in store.file.parent.glob("keys.sqlite3*"):
        file.unlink()
    wait_until(lambda: refuses(followed, first))
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
    with pytest.raises(
        KeyStoreError, match=r"^Keys cannot be checked at the moment; the server's log"
    ):
        followed.find(first)

    store.file.write_bytes(data)

    wait_until(lambda: not refuses(followed, first))
    assert followed.find(first) is not None


def test_a_store_that_is_overwritten_lets_nobody_in(
    store: KeyStore, followed: FollowedStore, first: str
) -> None:
    store.file.write_bytes(b"\xff" * store.file.stat().st_size)

    wait_until(lambda: refuses(followed, first))


def test_another_store_in_its_place_is_read(
    store: KeyStore, followed: FollowedStore, first: str, tmp_path: Path
) -> None:
    other = KeyStore(tmp_path / "other.sqlite3")
    key = other.create("other", Limits())

    other.file.replace(store.file)

    wait_until(lambda: not refuses(followed, key) and followed.find(key) is not None)
    assert followed.find(first) is None


def test_a_store_that_cannot_be_read_at_first_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyStoreError, match="is not there"):
        FollowedStore(tmp_path / "keys.sqlite3")
