"""Requests of our own to our own application: the whole way of a client's request, without a connection.

Limits, usage, metrics, the log and every error are those of a client's, by construction. Only the key is not
asked for: who asks is said by whoever calls.
"""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Scope

from hexgrid.server.auth import Client, in_name_of


class Reply(NamedTuple):
    """What a client would have been answered; names of headers are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def post(app: ASGIApp, path: str, body: bytes, client: Client) -> Reply:
    """The answer to a POST of JSON in the name of `client`. Cancelling it gives the request up."""
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
        "client": None,
        "server": None,
    }
    messages: list[Message] = []
    is_read = False

    async def receive() -> Message:
        nonlocal is_read
        if is_read:  # a connection that stays open
            await asyncio.Event().wait()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        messages.append(message)

    await app(in_name_of(client, scope), receive, send)
    task = asyncio.current_task()
    if task is not None and task.cancelling():  # a middleware has made an answer of it
        raise asyncio.CancelledError
    start, *parts = messages
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in start["headers"]}
    return Reply(start["status"], headers, b"".join(part.get("body", b"") for part in parts))
