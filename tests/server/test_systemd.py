"""What the service manager is told, by the socket that it listens on."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hexgrid.server.systemd import notify
from tests.server.running import DEADLINE


@pytest.fixture(params=["file", "abstract"])
def manager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[socket.socket]:
    """The socket of a manager."""
    name = str(tmp_path / "notify")
    abstract = request.param == "abstract"
    monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if abstract else name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(DEADLINE)
        manager.bind("\0" + name if abstract else name)
        yield manager


def test_the_manager_is_told(manager: socket.socket) -> None:
    notify("READY=1")

    assert manager.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", [None, ""])
def test_nobody_is_told_where_nobody_asks(
    address: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)

    notify("READY=1")

    assert caplog.text == ""


def test_a_manager_that_is_gone_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))

    notify("READY=1")

    assert "cannot be told READY=1" in caplog.text
