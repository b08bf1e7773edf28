"""What stands in for a server."""

from collections.abc import Iterator

import pytest

from tests.monitor.standing_in import StandIn


@pytest.fixture
def standing_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A server that a test has in its hand; no proxy of this machine comes between."""
    monkeypatch.setenv("NO_PROXY", "*")
    server = StandIn()
    yield server
    server.go()
