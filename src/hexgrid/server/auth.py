"""API keys: who may ask. A plain ASGI middleware in front of everything but the liveness paths."""

import hashlib
import hmac
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from hexgrid.config import Secret
from hexgrid.errors import UnauthorizedError
from hexgrid.server.errors import error_response

# What an orchestrator's probe must reach without a secret.
LIVENESS_PATHS = frozenset({"/health", "/live", "/ready"})


class Keys:
    """The valid keys, as digests: comparison takes the same time whatever is wrong about a key."""

    def __init__(self, keys: Sequence[Secret]) -> None:
        self._digests = [_digest(key.value.encode()) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def allow(self, authorization: str | None) -> bool:
        """Whether a header `Bearer KEY` (the scheme in any case, one space, the key exact) is valid."""
        scheme, _, key = (authorization or "").partition(" ")
        digest = _digest(key.encode("latin-1"))
        # Every key is compared, also after a match.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return scheme.lower() == "bearer" and any(matches)


class AuthMiddleware:
    """Answers 401 unless the request carries a valid key; open when there are no keys at all."""

    def __init__(self, app: ASGIApp, *, keys: Keys, open_paths: frozenset[str]) -> None:
        self._app = app
        self._keys = keys
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or not self._keys
            or scope["path"] in self._open_paths
            or self._keys.allow(Headers(scope=scope).get("authorization"))
        ):
            await self._app(scope, receive, send)
            return
        error = UnauthorizedError("Send a valid API key in the header 'Authorization: Bearer KEY'")
        await error_response(error)(scope, receive, send)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
