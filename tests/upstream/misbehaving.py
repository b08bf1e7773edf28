"""A real HTTP server that embeds by a simple rule, until it is told to misbehave."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from hexgrid.encoding import Vectors

HIDDEN_SIZE = 64
Reply = tuple[int, bytes, dict[str, str]]
Behaviour = Callable[["Server", dict[str, Any]], Reply]


def vector_of(token_ids: list[int]) -> Vectors:
    """The vector of length 1 that the server gives."""
    generator = np.random.default_rng(token_ids)
    row = generator.standard_normal(HIDDEN_SIZE).astype(np.float32)
    unit: Vectors = row / np.linalg.norm(row)
    return unit


def answer_with(rows: list[Any]) -> Reply:
    """A good answer's form around these vectors."""
    items = [
        {"object": "embedding", "index": index, "embedding": _form(row)}
        for index, row in enumerate(rows)
    ]
    return 200, json.dumps({"object": "list", "data": items}).encode(), {}


def embed(_: "Server", body: dict[str, Any]) -> Reply:
    """Do as asked; `use_activation` is not known here, as in most servers."""
    return answer_with([vector_of(ids) for ids in body["input"]])


class Server:
    """What the server does and has seen; `behave` may be replaced, `alive` is what /health says."""

    def __init__(self) -> None:
        self.behave: Behaviour = embed
        self.alive = True
        self.max_model_len: int | None = 1000
        self.key: str | None = None
        self.bodies: list[dict[str, Any]] = []
        self.hanging = threading.Event()  # set when a call hangs
        self.release = threading.Event()  # lets those that hang end
        self.url = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Server

    def do_GET(self) -> None:
        if self.path == "/health":
            self._send(200 if self.state.alive else 503, b"", {})
            return
        card: dict[str, Any] = {"id": "upstream-name", "object": "model"}
        if self.state.max_model_len is not None:
            card["max_model_len"] = self.state.max_model_len
        self._send(200, json.dumps({"object": "list", "data": [card]}).encode(), {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.state.key and self.headers["authorization"] != f"Bearer {self.state.key}":
            self._send(401, b'{"error":"Unauthorized"}', {})
            return
        self.state.bodies.append(body)
        self._send(*self.state.behave(self.state, body))

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that has given up."""


@contextmanager
def running() -> Iterator[Server]:
    """The server on a free port while the block runs."""
    state = Server()
    handler = type("Handler", (_Handler,), {"state": state})
    with _Quiet(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield state
        finally:
            state.release.set()
            server.shutdown()
            thread.join()


def _form(row: Any) -> Any:
    if isinstance(row, np.ndarray):
        return base64.b64encode(row.astype("<f4").tobytes()).decode()
    return row
