"""API keys: who may ask. A plain ASGI middleware in front of everything but the liveness paths."""

import hashlib
import hmac
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Receive, Scope, Send

from hexgrid.config.settings import Secret
from hexgrid.errors import HexgridError, UnauthorizedError
from hexgrid.headers import header_of
from hexgrid.server.errors import error_response
from hexgrid.server.followed_store import FollowedStore
from hexgrid.server.key_store import Limits, StoredKey
from hexgrid.server.request_record import record_of

# What an orchestrator's probe must reach without a secret.
LIVENESS_PATHS = frozenset({"/health", "/live", "/ready"})
_IN_SCOPE = "hexgrid.client"
_NO_KEY = "Send a valid API key in the header 'Authorization: Bearer KEY'"
_NOBODYS = StoredKey("", "", bytes(16), bytes(64), 0, None, None, Limits())


@dataclass(frozen=True)
class Client:
    """Who asks: the name of a stored key and its limits; the operator's own keys and nobody have none."""

    name: str | None = None
    limits: Limits = field(default_factory=Limits)


ANYONE = Client()


def client_of(scope: Scope) -> Client:
    """Who sent the request of `scope`."""
    client: Client = scope.get(_IN_SCOPE, ANYONE)
    return client


def in_name_of(client: Client, scope: Scope) -> Scope:
    """The scope of a request of our own for `client`, asked for no key; none of a connection is like it."""
    return {**scope, _IN_SCOPE: client}


class Keys:
    """The valid keys: those of the settings, as digests, and those of the store.

    Comparison takes the same time whatever is wrong about a key.
    """

    def __init__(self, keys: Sequence[Secret], store: FollowedStore | None = None) -> None:
        self._digests = [_digest(key.value.encode()) for key in keys]
        self._store = store

    def __bool__(self) -> bool:
        return bool(self._digests) or self._store is not None

    def client(self, authorization: bytes) -> Client:
        """Who sent the header `Bearer KEY` (the scheme in any case, one space, the key exact).

        Raises:
            UnauthorizedError: nobody who may ask.
            KeyStoreError: it could be a key of the store, which cannot be read.
        """
        scheme, _, key = authorization.partition(b" ")
        digest = _digest(key)
        # Every key is compared, also after a match.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if scheme.lower() == b"bearer":
            if any(matches):
                return ANYONE
            if self._store is not None:
                return self._stored(key.decode("latin-1"), self._store)
        raise UnauthorizedError(_NO_KEY)

    def named(self, name: str) -> Client:
        """The client of that name, for what it asked for earlier; the operator and nobody have none.

        Raises:
            UnauthorizedError: it has no key any more that is valid.
            KeyStoreError: the store cannot be read.
        """
        if not name:
            return ANYONE
        for found in () if self._store is None else self._store.named(name):
            if found.state(time.time()) == "valid":
                return Client(found.name, found.limits)
        raise UnauthorizedError(f"The API key {name!r} is no longer valid")

    def _stored(self, key: str, store: FollowedStore) -> Client:
        found = store.find(key)
        # Compared with something also where there is nothing of that prefix.
        if not (found or _NOBODYS).fits(key) or found is None:
            raise UnauthorizedError(_NO_KEY)
        state = found.state(time.time())
        if state != "valid":  # told only to who knows the key
            raise UnauthorizedError(f"This API key is {state}; ask for another one")
        return Client(found.name, found.limits)


class AuthMiddleware:
    """Answers 401 unless the request carries a valid key; open when there are no keys at all."""

    def __init__(self, app: ASGIApp, *, keys: Keys, open_paths: frozenset[str]) -> None:
        self._app = app
        self._keys = keys
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _IN_SCOPE in scope:  # see in_name_of
            record_of(scope).key = scope[_IN_SCOPE].name
        elif scope["type"] == "http" and self._keys and scope["path"] not in self._open_paths:
            try:
                client = self._keys.client(header_of(scope["headers"], b"authorization") or b"")
            except HexgridError as error:
                await error_response(error)(scope, receive, send)
                return
            record_of(scope).key = client.name
            scope = {**scope, _IN_SCOPE: client}
        await self._app(scope, receive, send)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
