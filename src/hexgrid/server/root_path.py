"""Behind a reverse proxy that serves us under a prefix: paths without it from here on, redirects with it."""

import re
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hexgrid.config import ServerConfig
from hexgrid.errors import ConfigError
from hexgrid.server import console
from hexgrid.server.operations import OPERATIONS

_PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")


def root_path_of(config: ServerConfig) -> str:
    """The prefix, empty where there is none.

    Raises:
        ConfigError: it is no prefix, or one with which our own paths begin.
    """
    prefix = config.root_path or ""
    if prefix and not _PREFIX.fullmatch(prefix):
        raise ConfigError(
            f"--root-path must be a path such as /embeddings, without a slash at its end, got {prefix!r}",
            param="root_path",
        )
    for path in (*(operation.path for operation in OPERATIONS), *sorted(console.PATHS)):
        if prefix and (path + "/").startswith(prefix + "/"):
            raise ConfigError(
                f"--root-path {prefix} is how {path} begins, so that nobody could tell the two "
                "apart; choose another prefix",
                param="root_path",
            )
    return prefix


class RootPathMiddleware:
    """Takes the prefix off, once and as whole segments; everything behind it knows our own paths only."""

    def __init__(self, app: ASGIApp, *, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._root_path and (scope["path"] + "/").startswith(self._root_path + "/"):
            scope = {**scope, "path": scope["path"].removeprefix(self._root_path) or "/"}

        if not scope["path"].endswith("/"):  # no other path is ever redirected
            await self._app(scope, receive, send)
            return

        async def redirecting_send(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 307:
                self._redirect(MutableHeaders(scope=message))
            await send(message)

        await self._app(scope, receive, redirecting_send)

    def _redirect(self, headers: MutableHeaders) -> None:
        """Name the path alone: by which scheme and host the client came, only the proxy knows."""
        target = urlsplit(headers["location"])
        query = f"?{target.query}" if target.query else ""
        headers["location"] = self._root_path + target.path + query
