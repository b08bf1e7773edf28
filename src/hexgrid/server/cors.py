"""Which pages may ask from a browser (CORS). Without --cors-origin none may, and no header speaks of it."""

import re

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from hexgrid import headers
from hexgrid.config import ServerConfig
from hexgrid.errors import ConfigError

# As browsers send it: in lower case, and nothing after the port.
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:]+\])(:\d+)?")
# What our answers say in headers, and pages may read only if told so.
EXPOSED_HEADERS = (
    headers.PROMPT_TOKENS,
    headers.TRUNCATED,
    headers.INDEX,
    headers.MAX_INPUTS,
    headers.MAX_TOKENS,
    headers.WARNING,
    "x-request-id",
    "retry-after",
    "server-timing",
    "metadata",
    *(
        f"x-ratelimit-{what}-{unit}"
        for what in ("limit", "remaining", "reset")
        for unit in ("requests", "tokens")
    ),
)


def cors_origins(config: ServerConfig) -> tuple[str, ...]:
    """The sites whose pages may ask.

    Raises:
        ConfigError: one of them is nothing that a browser would send.
    """
    for origin in config.cors_origin:
        if not _ORIGIN.fullmatch(origin):
            raise ConfigError(
                "--cors-origin must be scheme://host or scheme://host:port in lower case, as "
                f"https://app.example, or *; got {origin!r}",
                param="cors_origin",
            )
    return config.cors_origin


def answering_browsers(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    """`app`, whose answers pages of `origins` may read, errors too; it never sees a preflight request.

    Keys come in a header that the page sets itself, so any header may be sent and cookies never are.
    """
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=("*",),
        expose_headers=EXPOSED_HEADERS,
    )
