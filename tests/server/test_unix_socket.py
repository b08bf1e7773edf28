"""A unix socket: whose file may be replaced, who may write to it, and that it goes when the server does."""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from hexgrid.config import ServerConfig
from hexgrid.errors import ConfigError
from hexgrid.server.serving import bind, refuse_open_door, url_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hexgrid.sock"


@pytest.fixture
def stale(path: Path) -> Path:
    """What a server that was killed leaves behind."""
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
    assert path.is_socket()
    return path


@pytest.fixture(params=["free", "full"])
def live(path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Where somebody listens, whose queue may be full."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(path))
        listener.listen(0)
        if request.param == "full":
            client.connect(str(path))
        yield path


def connect_to(path: Path) -> int:
    """0, or why nobody can connect."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path))


def test_clients_reach_it_through_any_host(path: Path) -> None:
    with bind(ServerConfig(uds=path)) as listener:
        listener.listen()

        assert connect_to(path) == 0
        assert url_of(listener) == "http://localhost"
        assert url_of(listener, scheme="https") == "https://localhost"


def test_it_needs_no_key_as_its_file_is_guarded(path: Path) -> None:
    refuse_open_door(ServerConfig(uds=path))


@pytest.mark.parametrize(
    ("given", "mode"), [(None, 0o660), ("0600", 0o600), ("666", 0o666), ("0000", 0)]
)
def test_its_permissions_are_those_asked_for_whatever_the_umask(
    path: Path, given: str | None, mode: int
) -> None:
    before = os.umask(0o027)
    try:
        with bind(ServerConfig(uds=path, uds_mode=given)):
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    "text", ["rw", "0o660", "689", "1777", "-1", " 660", "\N{SUPERSCRIPT TWO}"]
)
def test_other_permissions_are_refused_before_a_file_is_made(path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="--uds-mode must be permissions in octal"):
        bind(ServerConfig(uds=path, uds_mode=text))
    assert not path.exists()


def test_permissions_without_a_socket_are_refused() -> None:
    with pytest.raises(ConfigError, match="--uds-mode goes with --uds"):
        bind(ServerConfig(port=0, uds_mode="0600"))


@pytest.mark.parametrize(("name", "value"), [("host", "127.0.0.1"), ("port", 8000), ("port", 0)])
def test_two_places_to_listen_are_one_too_many(path: Path, name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"--uds {path} and --{name} {value} are two places"):
        bind(ServerConfig(uds=path, **{name: value}))  # type: ignore[arg-type]


def test_what_a_killed_server_left_is_replaced(stale: Path) -> None:
    assert connect_to(stale) == errno.ECONNREFUSED
    with bind(ServerConfig(uds=stale)) as listener:
        listener.listen()

        assert connect_to(stale) == 0


def test_a_live_servers_socket_is_left_alone(live: Path) -> None:
    before = live.stat().st_ino
    with pytest.raises(ConfigError, match=f"--uds {live}: another server listens there"):
        bind(ServerConfig(uds=live))
    assert live.stat().st_ino == before


def test_any_other_file_is_left_alone(path: Path) -> None:
    path.write_text("precious")

    with pytest.raises(ConfigError, match=f"--uds {path}: it is there already and no socket"):
        bind(ServerConfig(uds=path))
    assert path.read_text() == "precious"


def test_a_link_is_not_followed(path: Path, stale: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(stale)

    with pytest.raises(ConfigError, match="it is there already and no socket"):
        bind(ServerConfig(uds=link))
    assert link.is_symlink()
    assert stale.is_socket()


@pytest.mark.parametrize("name", ["no/such/directory", "x" * 200])
def test_a_path_where_no_socket_can_be_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"Cannot listen on --uds .*Choose another path"):
        bind(ServerConfig(uds=tmp_path / name))


def test_the_file_goes_with_the_listener(path: Path) -> None:
    with bind(ServerConfig(uds=path)) as listener:
        listener.listen()
    listener.close()

    assert not path.exists()


def test_a_socket_that_another_server_has_put_there_since_is_left_alone(path: Path) -> None:
    config = ServerConfig(uds=path)
    # The first one loads its model, and does not listen yet when the second one comes.
    with bind(config) as first, bind(config) as second:
        second.listen()

        with pytest.raises(ConfigError, match="another server has taken it meanwhile"):
            first.listen()
        first.close()

        assert connect_to(path) == 0
