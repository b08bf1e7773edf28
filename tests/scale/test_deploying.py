"""`hexgrid deploy` while a cluster that has taken the config goes away, or takes too long."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from hexgrid.errors import RemoteError, UnreachableError

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore:Using extra keyword arguments:DeprecationWarning"),  # of Ray
]

CONFIG = {"applications": [{"name": "hexgrid", "import_path": "hexgrid.scale:app"}]}


@contextmanager
def dashboard(*, then: int) -> Iterator[str]:
    """The address of one that takes any config, and answers with the status `then` from that on."""
    taken = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/api/serve") and taken.is_set():
                application = {"status": "DEPLOYING", "last_deployed_time_s": 1.0}
                self._answer(then, {"applications": {"hexgrid": application}})
            else:
                version = {
                    "version": "1",
                    "ray_version": "2.50.0",
                    "ray_commit": "",
                    "session_name": "",
                }
                self._answer(200, version | {"applications": {}})

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            taken.set()
            self._answer(200, {})

        def _answer(self, status: int, content: dict[str, Any]) -> None:
            if status == 0:  # hang up
                return
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("then", "error", "message"),
    [
        (0, UnreachableError, "No dashboard of Ray answers"),
        (500, RemoteError, "has taken the config but does not tell how far it is.*500"),
    ],
)
def test_a_dashboard_that_fails_while_it_deploys_is_told_of(
    then: int, error: type[Exception], message: str
) -> None:
    from hexgrid.scale.deploying import deploy

    with dashboard(then=then) as address, pytest.raises(error, match=message):
        deploy(CONFIG, address, seconds=600, report=lambda _: None)


@pytest.mark.parametrize("seconds", [0.0, 0.1])
def test_it_is_asked_a_last_time_at_the_deadline(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hexgrid.scale import deploying

    pauses: list[float] = []
    clock = iter([0.0, 0.0, seconds, seconds])
    monkeypatch.setattr(deploying, "monotonic", lambda: next(clock))
    monkeypatch.setattr(deploying, "sleep", pauses.append)

    with (
        dashboard(then=200) as address,
        pytest.raises(RemoteError, match=f"Not everything serves after {seconds:g} seconds"),
    ):
        deploying.deploy(CONFIG, address, seconds=seconds, report=lambda _: None)

    assert pauses == ([seconds] if seconds else [])
