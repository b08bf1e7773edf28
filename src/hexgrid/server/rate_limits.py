"""What a name may use in a minute and at a time: token buckets in memory, and the headers that tell of them.

A bucket holds a minute's worth and fills at an even rate, so that a burst is served at once and a steady
stream at the rate itself. Limits are those of one server: several servers each have their own.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hexgrid.errors import RateLimitedError, TooManyInputsError
from hexgrid.server.auth import Client, client_of
from hexgrid.server.errors import error_response
from hexgrid.server.key_store import Limits

_MINUTE = 60.0
_CONCURRENCY_RETRY_SECONDS = 1

Clock = Callable[[], float]


class Bucket:
    """`size` units a minute; as many at once when it is full."""

    def __init__(self, size: int, now: float) -> None:
        self.size = size
        self._level = float(size)
        self._at = now

    def level(self, now: float) -> float:
        """Units that can be taken."""
        return min(self.size, self._level + (now - self._at) * self.size / _MINUTE)

    def seconds_until(self, units: float, now: float) -> float:
        """How long until so many units can be taken."""
        return max(0.0, units - self.level(now)) * _MINUTE / self.size

    def take(self, units: float, now: float) -> None:
        """Take units that are there, or put some back (negative)."""
        self._level = min(self.size, self.level(now) - units)
        self._at = now


@dataclass
class _Use:
    """What one name uses."""

    limits: Limits
    requests: Bucket | None
    tokens: Bucket | None
    running: int = field(default=0)


class RateLimits:
    """The limits of all names; any thread may call."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._uses: dict[str, _Use] = {}

    def enter(self, client: Client) -> None:
        """Count a request that begins; to be followed by `leave`.

        Raises:
            RateLimitedError: too many in a minute, or at a time.
        """
        with self._lock:
            use = self._use(client)
            if use is None:
                return
            most = use.limits.max_concurrency
            if most is not None and use.running >= most:
                raise RateLimitedError(
                    f"This key may have {most} requests at a time, and has {use.running}",
                    retry_after=_CONCURRENCY_RETRY_SECONDS,
                )
            _take(use.requests, 1, self._clock(), "requests")
            use.running += 1

    def leave(self, client: Client) -> None:
        """A request is over."""
        with self._lock:
            use = self._use(client)
            if use is not None:
                use.running -= 1

    def take_tokens(self, client: Client, num_tokens: int) -> None:
        """Count a request's tokens, before they are computed.

        Raises:
            TooManyInputsError: they are more than a minute's worth.
            RateLimitedError: too many in a minute.
        """
        with self._lock:
            use = self._use(client)
            if use is None or use.tokens is None:
                return
            if num_tokens > use.tokens.size:
                raise TooManyInputsError(
                    f"This request has {num_tokens} tokens, and this key may use {use.tokens.size} a minute. "
                    "Send the inputs in several requests",
                    max_tokens=use.tokens.size,
                )
            _take(use.tokens, num_tokens, self._clock(), "tokens")

    def give_back(self, client: Client, num_tokens: int) -> None:
        """The tokens were not computed after all."""
        with self._lock:
            use = self._use(client)
            if use is not None and use.tokens is not None:
                use.tokens.take(-num_tokens, self._clock())

    def headers(self, client: Client) -> dict[str, str]:
        """OpenAI's x-ratelimit headers for what is limited."""
        found: dict[str, str] = {}
        with self._lock:
            use = self._use(client)
            if use is not None:
                now = self._clock()
                for unit, bucket in (("requests", use.requests), ("tokens", use.tokens)):
                    if bucket is not None:
                        found[f"x-ratelimit-limit-{unit}"] = str(bucket.size)
                        found[f"x-ratelimit-remaining-{unit}"] = str(math.floor(bucket.level(now)))
                        full = bucket.seconds_until(bucket.size, now)
                        found[f"x-ratelimit-reset-{unit}"] = f"{full:.3f}s"
        return found

    def _use(self, client: Client) -> _Use | None:
        """None for who has no limits."""
        limits = client.limits
        if client.name is None or (limits.rpm, limits.tpm, limits.max_concurrency) == (None,) * 3:
            return None
        use = self._uses.get(client.name)
        if use is None:
            now = self._clock()
            requests, tokens = (
                None if size is None else Bucket(size, now) for size in (limits.rpm, limits.tpm)
            )
            use = self._uses[client.name] = _Use(limits, requests, tokens)
        return use


class RateLimitMiddleware:
    """Answers 429 to who asks too often, and tells everyone with limits how much is left."""

    def __init__(self, app: ASGIApp, *, limits: RateLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = client_of(HTTPConnection(scope))

        async def telling_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._limits.headers(client))
            await send(message)

        try:
            self._limits.enter(client)
        except RateLimitedError as error:
            await error_response(error)(scope, receive, telling_send)
            return
        try:
            await self._app(scope, receive, telling_send)
        finally:
            self._limits.leave(client)


def _take(bucket: Bucket | None, units: int, now: float, name: str) -> None:
    if bucket is None:
        return
    seconds = bucket.seconds_until(units, now)
    if seconds > 0:
        raise RateLimitedError(
            f"This key may use {bucket.size} {name} a minute, and has {math.floor(bucket.level(now))} left; "
            f"{units} can be had in {seconds:.1f} s",
            retry_after=math.ceil(seconds),
        )
    bucket.take(units, now)
