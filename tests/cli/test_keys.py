"""hexgrid keys: the key on stdout and nothing else, and the list without secrets."""

import json
from pathlib import Path

import pytest

from hexgrid.server.key_store import KeyStore, prefix_of
from tests.cli.conftest import Command, one_line


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.sqlite3"


def test_a_key_is_printed_once_and_listed_by_its_prefix(command: Command, file: Path) -> None:
    limits = ("--models", "a, b", "--rpm", "10", "--tpm", "2000", "--max-concurrency", "3")
    made = command("keys", "create", "--key-store", str(file), "--name", "search", *limits)

    assert made.exit_code == 0, made.stderr
    (key,) = made.stdout.splitlines()
    assert KeyStore(file).read()[0].fits(key)
    assert key not in made.stderr
    listed = command("keys", "list", "--key-store", str(file))
    assert key not in listed.stdout
    assert f"hg_{prefix_of(key)}_..." in listed.stdout
    assert "only a, b; 10 requests/min; 2000 tokens/min; 3 at a time" in listed.stdout
    (data,) = json.loads(command("keys", "list", "--key-store", str(file), "--json").stdout)
    assert data == {
        "name": "search",
        "prefix": f"hg_{prefix_of(key)}",
        "state": "valid",
        "created": data["created"],
        "expires": None,
        "revoked": None,
        "models": ["a", "b"],
        "rpm": 10,
        "tpm": 2000,
        "max_concurrency": 3,
    }


def test_the_store_may_be_named_by_the_variable(
    command: Command, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEXGRID_KEY_STORE", str(file))

    assert command("keys", "create", "--name", "search").exit_code == 0
    assert "search" in command("keys", "list").stdout


@pytest.mark.parametrize(
    ("duration", "seconds"), [("90d", 7_776_000), ("2h", 7_200), ("5m", 300), ("45s", 45)]
)
def test_a_key_can_have_an_end(command: Command, file: Path, duration: str, seconds: int) -> None:
    command("keys", "create", "--key-store", str(file), "--name", "x", "--expires", duration)

    (key,) = KeyStore(file).read()
    assert key.expires is not None
    assert abs(key.expires - key.created - seconds) <= 1


@pytest.mark.parametrize("duration", ["", "90", "d", "0d", "-1d", "1.5h", "1y", "99999999d"])
def test_what_is_no_duration_is_refused(command: Command, file: Path, duration: str) -> None:
    arguments = ("--name", "x", "--expires", duration)

    result = command("keys", "create", "--key-store", str(file), *arguments)

    assert result.exit_code == 2
    assert "is no duration such as 90d, 12h, 30m or 45s" in result.stderr
    assert not file.exists()


def test_a_key_is_replaced_and_revoked(command: Command, file: Path) -> None:
    store = ("--key-store", str(file))
    old = command("keys", "create", *store, "--name", "search").stdout.strip()

    new = command("keys", "rotate", *store, "search", "--grace", "1h").stdout.strip()

    first, second = KeyStore(file).read()
    assert (first.fits(old), second.fits(new)) == (True, True)
    assert first.expires is not None
    assert command("keys", "revoke", *store, "search").exit_code == 0
    assert command("keys", "list", *store).stdout.count("revoked") == 2


def test_a_name_that_is_not_there_is_one_line(command: Command, file: Path) -> None:
    command("keys", "create", "--key-store", str(file), "--name", "x")

    result = command("keys", "revoke", "--key-store", str(file), "y")

    assert result.exit_code == 2
    assert "There is no key named 'y'" in one_line(result)


def test_a_store_that_cannot_be_used_is_one_line(command: Command, file: Path) -> None:
    result = command("keys", "list", "--key-store", str(file))
    assert result.exit_code == 1
    assert "is not there" in one_line(result)

    file.write_bytes(b"text" * 1_000)
    result = command("keys", "list", "--key-store", str(file))
    assert result.exit_code == 1
    assert "cannot be used" in one_line(result)


def test_models_must_be_named(command: Command, file: Path) -> None:
    arguments = ("--name", "x", "--models", " , ")

    result = command("keys", "create", "--key-store", str(file), *arguments)

    assert result.exit_code == 2
    assert "no name in it" in result.stderr
