"""The ids that Ray's proxy gives requests: told from those of clients, and sent once.

The proxy appends the header to a request that has none, and to every answer.
"""

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hexgrid.server.request_record import MADE_ID, REQUEST_ID_HEADER

# A client that makes its own in the same form, and sends it as its last header, sends what will do as well.
_MADE = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class ProxyRequestIds:
    """Stands in front of the whole application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_without_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [each for each in message["headers"] if each[0] != REQUEST_ID_HEADER]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(_without_made_id(scope), receive, send_without_id)


def _without_made_id(scope: Scope) -> Scope:
    *others, (name, value) = scope["headers"] or [(b"", b"")]
    if name == REQUEST_ID_HEADER and _MADE.fullmatch(value):
        return {**scope, "headers": others, MADE_ID: value.decode()}
    return scope
