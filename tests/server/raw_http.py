"""Requests over bare sockets, which a well-behaved client would not send, and what comes back."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from tests.server.running import DEADLINE, error, metric

LIVE = b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\n"
HEAD = b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


@contextmanager
def dial(client: httpx2.Client, receive_buffer: int | None = None) -> Iterator[socket.socket]:
    """A connection of one's own to the client's server."""
    with socket.socket() as connection:
        connection.settimeout(DEADLINE)
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        assert client.base_url.port is not None
        connection.connect((client.base_url.host, client.base_url.port))
        yield connection


def rest(connection: socket.socket) -> bytes:
    """All that comes until the server closes; an abrupt end is one, too."""
    parts = []
    try:
        while part := connection.recv(2**16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def response(answer: bytes) -> httpx2.Response:
    """An answer that ends its connection."""
    head, _, body = answer.partition(b"\r\n\r\n")
    line, *headers = head.decode().split("\r\n")
    named = dict(header.split(": ", 1) for header in headers)
    assert int(named["content-length"]) == len(body)
    return httpx2.Response(int(line.split()[1]), headers=named, content=body)


def refusal(answer: bytes) -> dict[str, Any]:
    """The error object of an answer that ends its connection, checked to be of the one shape."""
    found = response(answer)
    assert found.headers["connection"] == "close"
    return error(found)


def refused(client: httpx2.Client, reason: str) -> float:
    return metric(client, "refused_connections_total", reason=reason)


def ask(client: httpx2.Client, request: bytes) -> bytes:
    """What a connection answers to `request` until it is closed."""
    with dial(client) as connection:
        connection.sendall(request)
        return rest(connection)


HEADERS = b"".join(b"h%d: x\r\n" % number for number in range(9))
TOO_MUCH = {
    "many headers": (
        b"GET /live HTTP/1.1\r\n" + HEADERS + b"\r\n",
        431,
        "headers",
        "more than 8 headers",
    ),
    "long headers": (
        b"GET /live HTTP/1.1\r\na: " + b"x" * 200 + b"\r\nb: " + b"x" * 200 + b"\r\n\r\n",
        431,
        "headers",
        "419 or more bytes; at most 256",
    ),
    "one header without an end": (
        b"GET /live HTTP/1.1\r\na: " + b"x" * 2_000_000,
        431,
        "headers",
        "at most 256 are taken",
    ),
    "a header's name without an end": (
        b"GET /live HTTP/1.1\r\n" + b"x" * 2_000_000,
        431,
        "headers",
        "at most 256 are taken",
    ),
    "a long path": (
        b"GET /" + b"x" * 64 + b" HTTP/1.1\r\n\r\n",
        414,
        "url_bytes",
        "65 bytes or more; at most 64",
    ),
    "a long query": (
        b"GET /live?" + b"x" * 60 + b" HTTP/1.1\r\n\r\n",
        414,
        "url_bytes",
        "at most 64",
    ),
    "a path without an end": (b"GET /" + b"x" * 2_000_000, 414, "url_bytes", "at most 64"),
    "endless trailers": (
        HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\na: " + b"x" * 2_000_000,
        431,
        "headers",
        "at most 256",
    ),
    "many trailers": (
        HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n" + HEADERS,
        431,
        "headers",
        "more than 8 headers",
    ),
    "an endless chunk extension": (
        HEAD + b"transfer-encoding: chunked\r\n\r\n1;a=" + b"x" * 2_000_000,
        431,
        "headers",
        "at most 256",
    ),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, "malformed", "Invalid HTTP request"),
}
