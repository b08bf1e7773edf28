"""Some other server of OpenAI's API than hexgrid, real and on loopback, which answers as a test says."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

# A request's body -> status, headers and body of the answer.
Answer = tuple[int, dict[str, str], Any]
Respond = Callable[[dict[str, Any]], Answer]


class Other:
    """Some other server: `requests` are the bodies that it was sent, `keys` the keys."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.url = ""


@contextmanager
def other_server(respond: Respond, models: Any = ("m",)) -> Iterator[Other]:
    """A server that answers POST /v1/embeddings by `respond`; it lists `models`, or nothing where None."""
    other = Other()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = {"data": [{"id": name, "owned_by": "acme"} for name in models or ()]}
            self._answer(200 if models is not None else 404, {}, found)

        def do_POST(self) -> None:
            other.keys.add(self.headers["authorization"])
            other.requests.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self._answer(*respond(other.requests[-1]))

        def _answer(self, status: int, headers: dict[str, str], body: Any) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    other.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield other
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def items(*vectors: Any) -> dict[str, Any]:
    """An answer of `vectors`, each as it stands on the wire."""
    return {"data": [{"index": i, "embedding": vector} for i, vector in enumerate(vectors)]}


def in_base64(*numbers: float) -> str:
    return base64.b64encode(np.array(numbers, dtype="<f4").tobytes()).decode()


def good(request: dict[str, Any]) -> Answer:
    return 200, {}, items(*(in_base64(len(text), 1) for text in request["input"]))
