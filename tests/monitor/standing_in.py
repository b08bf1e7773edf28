"""A small server on loopback that answers /metrics as a test says, can go, and can come back on its port."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from hexgrid.metrics import Metrics
from tests.server.running import DEADLINE


class StandIn:
    """Answers GET /metrics with `status` and `body`, or with what `metrics` tell; other paths with 404."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.status = 200
        self.body: str | None = None
        self.asked: list[tuple[str, str | None]] = []  # path and key
        self._port = 0
        self.come()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def go(self) -> None:
        """Listen no longer; whoever asks is refused."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(DEADLINE)

    def come(self) -> None:
        """Listen, where it did before if it did."""
        standing_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                standing_in.asked.append((self.path, self.headers["authorization"]))
                is_known = self.path == "/metrics"
                self.send_response(standing_in.status if is_known else 404)
                self.end_headers()
                body = standing_in.body
                content = standing_in.metrics.text() if body is None else body.encode()
                self.wfile.write(content if is_known else b"")

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
