"""What a name may use in a minute and at a time: token buckets in memory, and the headers that tell of them.

A bucket holds a minute's worth and fills at an even rate, so that a burst is served at once and a steady
stream at the rate itself. Limits are those of one server here; shared_limits.py counts for several.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hexgrid.errors import HexgridError, RateLimitedError, TooManyInputsError
from hexgrid.server.auth import Client, client_of
from hexgrid.server.errors import error_response
from hexgrid.server.key_store import Limits

_MINUTE = 60.0
_CONCURRENCY_RETRY_SECONDS = 1

Clock = Callable[[], float]


class Bucket:
    """`size` units a minute; as many at once when it is full."""

    def __init__(self, size: int, now: float, level: float | None = None) -> None:
        """Full, where no `level` is given."""
        self.size = size
        self._level = float(size) if level is None else level
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
    """The limits of all names, in the memory of this process."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._uses: dict[str, _Use] = {}

    async def enter(self, client: Client) -> str:
        """Count a request that begins; to be followed by `leave` with what this gives.

        Raises:
            RateLimitedError: too many in a minute, or at a time.
            RateLimitStoreError: where they are counted cannot be reached.
        """
        use = self._use(client)
        if use is not None:
            most = use.limits.max_concurrency
            if most is not None and use.running >= most:
                raise too_many_at_a_time(most, use.running)
            _take(use.requests, 1, self._clock(), "requests")
            use.running += 1
        return ""

    async def leave(self, client: Client, lease: str) -> None:  # noqa: ARG002 (where several count)
        """The request that was given `lease` is over."""
        use = self._use(client)
        if use is not None:
            use.running -= 1

    async def take_tokens(self, client: Client, num_tokens: int) -> None:
        """Count a request's tokens, before they are computed.

        Raises:
            TooManyInputsError: they are more than a minute's worth.
            RateLimitedError: too many in a minute.
            RateLimitStoreError: where they are counted cannot be reached.
        """
        use = self._use(client)
        if use is None or use.tokens is None:
            return
        refuse_more_than_a_minutes(num_tokens, use.tokens.size)
        _take(use.tokens, num_tokens, self._clock(), "tokens")

    async def give_back(self, client: Client, num_tokens: int) -> None:
        """The tokens were not computed after all."""
        use = self._use(client)
        if use is not None and use.tokens is not None:
            use.tokens.take(-num_tokens, self._clock())

    def headers(self, client: Client) -> dict[str, str]:
        """OpenAI's x-ratelimit headers for what is limited."""
        found: dict[str, str] = {}
        use = self._use(client)
        if use is not None:
            now = self._clock()
            for unit, bucket in (("requests", use.requests), ("tokens", use.tokens)):
                if bucket is not None:
                    found |= headers_of(unit, bucket, now)
        return found

    async def close(self) -> None:
        """Nobody will ask any more."""

    def _use(self, client: Client) -> _Use | None:
        """None for who has no limits."""
        if not is_limited(client):
            return None
        assert client.name is not None
        use = self._uses.get(client.name)
        if use is None:
            now, limits = self._clock(), client.limits
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
        client = client_of(scope)
        if not is_limited(client):  # most are not, and this is in the way of every request
            await self._app(scope, receive, send)
            return

        async def telling_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._limits.headers(client))
            await send(message)

        try:
            lease = await self._limits.enter(client)
        except HexgridError as error:
            await error_response(error)(scope, receive, telling_send)
            return
        async with _Running(self._limits, client, lease) as running:

            async def leaving_send(message: Message) -> None:
                # Before the client can know, or its next request could come too soon.
                if message["type"] == "http.response.body" and not message.get("more_body"):
                    await running.end()
                await telling_send(message)

            await self._app(scope, receive, leaving_send)


class _Running:
    """A request that has entered and leaves once, whatever happens."""

    def __init__(self, limits: RateLimits, client: Client, lease: str) -> None:
        self._limits = limits
        self._client = client
        self._lease = lease
        self._is_over = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    async def end(self) -> None:
        """It runs no more."""
        if not self._is_over:
            self._is_over = True
            await self._limits.leave(self._client, self._lease)


def is_limited(client: Client) -> bool:
    """Whether anything is counted of what `client` uses."""
    limits = client.limits
    return client.name is not None and (limits.rpm, limits.tpm, limits.max_concurrency) != (
        None,
        None,
        None,
    )


def too_many_at_a_time(most: int, running: int) -> RateLimitedError:
    """The refusal of one more."""
    return RateLimitedError(
        f"This key may have {most} requests at a time, and has {running}",
        retry_after=_CONCURRENCY_RETRY_SECONDS,
    )


def too_many_in_a_minute(bucket: Bucket, units: int, now: float, name: str) -> RateLimitedError:
    """The refusal of `units` that `bucket` does not hold."""
    seconds = bucket.seconds_until(units, now)
    return RateLimitedError(
        f"This key may use {bucket.size} {name} a minute, and has {math.floor(bucket.level(now))} left; "
        f"{units} can be had in {seconds:.1f} s",
        retry_after=math.ceil(seconds),
    )


def refuse_more_than_a_minutes(num_tokens: int, size: int) -> None:
    """Raise TooManyInputsError for what no waiting helps."""
    if num_tokens > size:
        raise TooManyInputsError(
            f"This request has {num_tokens} tokens, and this key may use {size} a minute. "
            "Send the inputs in several requests",
            max_tokens=size,
        )


def headers_of(unit: str, bucket: Bucket, now: float) -> dict[str, str]:
    """What is told of one limit."""
    return {
        f"x-ratelimit-limit-{unit}": str(bucket.size),
        f"x-ratelimit-remaining-{unit}": str(math.floor(bucket.level(now))),
        f"x-ratelimit-reset-{unit}": f"{bucket.seconds_until(bucket.size, now):.3f}s",
    }


def _take(bucket: Bucket | None, units: int, now: float, name: str) -> None:
    if bucket is None:
        return
    if bucket.seconds_until(units, now) > 0:
        raise too_many_in_a_minute(bucket, units, now, name)
    bucket.take(units, now)
