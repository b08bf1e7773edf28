"""The limits of names where several servers count as one: the same buckets, in Redis (or Valkey).

The rules:
1. What is asked and what is taken is one script, which Redis runs alone: however many servers ask at a time,
   no unit is had twice. The clock is Redis's.
2. A name's buckets are one hash, which Redis forgets once they must be full again.
3. A request that runs is a lease with an end, so that those of a server that died do not run for ever.
4. Where Redis cannot be asked, who has limits is refused with 503: nobody has more than their limits. Who has
   none is never looked up.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from hexgrid.config.settings import Secret
from hexgrid.errors import ConfigError, RateLimitStoreError
from hexgrid.server.auth import Client
from hexgrid.server.rate_limits import (
    Bucket,
    RateLimits,
    headers_of,
    is_limited,
    refuse_more_than_a_minutes,
    too_many_at_a_time,
    too_many_in_a_minute,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis

_PREFIX = "hexgrid:limits:"
_SECONDS = 2.0  # that Redis may take to answer, or to be reached
# After a lease's end the server that has it is dead: it ends its requests sooner by itself.
_LEASE_GRACE = 60.0

# KEYS: the hash of the buckets, the leases. ARGV: requests and tokens a minute, requests at a time (0: no
# limit), the clock (empty: Redis's), requests to take, tokens to take, the lease and its seconds.
# Gives which limit refuses (empty: none, and all was taken), both levels, and how many run.
_SCRIPT = """
local rpm, tpm, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local requests, tokens = tonumber(ARGV[5]), tonumber(ARGV[6])
local now = tonumber(ARGV[4])
if not now then
    local parts = redis.call('TIME')
    now = tonumber(parts[1]) + tonumber(parts[2]) / 1e6
end
local function level(unit, size)
    local kept = redis.call('HMGET', KEYS[1], unit, unit .. '_at')
    if not kept[1] then return size end
    return math.min(size, tonumber(kept[1]) + math.max(0, now - tonumber(kept[2])) * size / 60)
end
local function set(unit, value)
    local exactly = '%.17g'
    redis.call('HSET', KEYS[1], unit, exactly:format(value), unit .. '_at', exactly:format(now))
    redis.call('EXPIRE', KEYS[1], 120)
end
local requests_left, tokens_left, running = level('requests', rpm), level('tokens', tpm), 0
local refused = ''
if most > 0 then
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
    running = redis.call('ZCARD', KEYS[2])
end
if most > 0 and requests > 0 and running >= most then refused = 'running'
elseif rpm > 0 and requests > requests_left then refused = 'requests'
elseif tpm > 0 and tokens > tokens_left then refused = 'tokens'
else
    if rpm > 0 and requests ~= 0 then
        requests_left = requests_left - requests
        set('requests', requests_left)
    end
    if tpm > 0 and tokens ~= 0 then
        tokens_left = math.min(tpm, tokens_left - tokens)
        set('tokens', tokens_left)
    end
    if most > 0 and requests > 0 then
        redis.call('ZADD', KEYS[2], now + tonumber(ARGV[8]), ARGV[7])
        redis.call('EXPIRE', KEYS[2], math.ceil(tonumber(ARGV[8])) + 1)
    end
end
return {refused, string.format('%.17g', requests_left), string.format('%.17g', tokens_left), running}
"""

_logger = logging.getLogger(__name__)


class _Left(NamedTuple):
    """What Redis told last of a name: units of its buckets, at a time of our own clock."""

    requests: float
    tokens: float
    at: float


class SharedRateLimits(RateLimits):
    """See `RateLimits`; of one event loop."""

    def __init__(
        self,
        url: Secret,
        *,
        request_timeout: float,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`request_timeout`: seconds after which a request runs no more; `clock`: one for tests.

        Raises:
            ConfigError: the URL is none, or the package for it is not installed.
        """
        super().__init__()
        self._redis = _connect(url)
        self._script = self._redis.register_script(_SCRIPT)
        self._lease_seconds = request_timeout + _LEASE_GRACE
        self._given_clock = clock
        self._left: dict[str, _Left] = {}

    async def enter(self, client: Client) -> str:
        """See `RateLimits.enter`."""
        if not is_limited(client):
            return ""
        lease = secrets.token_hex(8)
        await self._take(client, requests=1, lease=lease)
        return lease

    async def leave(self, client: Client, lease: str) -> None:
        """See `RateLimits.leave`; a lease that cannot be given back ends by itself."""
        if lease and client.limits.max_concurrency is not None:
            # Also where the request was cancelled: this must not be, or the lease stays.
            await asyncio.shield(self._forget(client, lease))

    async def take_tokens(self, client: Client, num_tokens: int) -> None:
        """See `RateLimits.take_tokens`."""
        if is_limited(client) and client.limits.tpm is not None:
            refuse_more_than_a_minutes(num_tokens, client.limits.tpm)
            await self._take(client, tokens=num_tokens)

    async def give_back(self, client: Client, num_tokens: int) -> None:
        """See `RateLimits.give_back`."""
        if is_limited(client) and client.limits.tpm is not None:
            try:
                await self._take(client, tokens=-num_tokens)
            except RateLimitStoreError:
                _logger.warning("%d tokens of a key could not be given back", num_tokens)

    def headers(self, client: Client) -> dict[str, str]:
        """See `RateLimits.headers`; as Redis told last, at the end of this request's own."""
        left = None if client.name is None else self._left.get(client.name)
        if left is None or not is_limited(client):
            return {}
        now, limits = time.monotonic(), client.limits
        found: dict[str, str] = {}
        if limits.rpm is not None:
            found |= headers_of("requests", Bucket(limits.rpm, left.at, left.requests), now)
        if limits.tpm is not None:
            found |= headers_of("tokens", Bucket(limits.tpm, left.at, left.tokens), now)
        return found

    async def close(self) -> None:
        """See `RateLimits.close`."""
        await self._redis.aclose()

    async def _take(
        self, client: Client, *, requests: int = 0, tokens: int = 0, lease: str = ""
    ) -> None:
        """Take both, or raise RateLimitedError for what there is too little of."""
        limits = client.limits
        assert client.name is not None
        now = "" if self._given_clock is None else repr(self._given_clock())
        sizes = (limits.rpm or 0, limits.tpm or 0, limits.max_concurrency or 0)
        refused, *levels, running = await self._ask(
            self._script(
                keys=_keys(client.name),
                args=[*sizes, now, requests, tokens, lease, self._lease_seconds],
            )
        )
        left = _Left(float(levels[0]), float(levels[1]), time.monotonic())
        self._left[client.name] = left
        if refused == b"running":
            raise too_many_at_a_time(sizes[2], running)
        if refused == b"requests":
            bucket = Bucket(sizes[0], left.at, left.requests)
            raise too_many_in_a_minute(bucket, requests, left.at, "requests")
        if refused:
            bucket = Bucket(sizes[1], left.at, left.tokens)
            raise too_many_in_a_minute(bucket, tokens, left.at, "tokens")

    async def _forget(self, client: Client, lease: str) -> None:
        assert client.name is not None
        try:
            await self._ask(self._redis.zrem(_keys(client.name)[1], lease))
        except RateLimitStoreError:
            _logger.warning("A request that is over counts for %d s more", self._lease_seconds)

    async def _ask(self, call: Any) -> Any:
        from redis.exceptions import RedisError  # noqa: PLC0415 (an extra)

        try:
            return await call
        except (RedisError, OSError) as error:
            _logger.error("--rate-limit-store does not answer: %s", type(error).__name__)  # noqa: TRY400
            raise RateLimitStoreError(
                "This key's limits cannot be counted at the moment. Try again later"
            ) from error


def _keys(name: str) -> list[str]:
    # In braces what decides the node of a cluster: a script's keys must be on one.
    return [f"{_PREFIX}{{{name}}}", f"{_PREFIX}{{{name}}}:running"]


def _connect(url: Secret) -> "Redis":
    try:
        from redis.asyncio import Redis  # noqa: PLC0415 (an extra)
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.exceptions import ConnectionError as GoneError  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            "--rate-limit-store needs the package redis: pip install 'hexgrid[redis]'",
            param="rate_limit_store",
        ) from error
    try:
        return Redis.from_url(
            url.value,
            socket_timeout=_SECONDS,
            socket_connect_timeout=_SECONDS,
            # Once more where a kept connection was closed: at worst, what was taken is taken twice.
            retry=Retry(NoBackoff(), 1),
            retry_on_error=[GoneError],
        )
    except ValueError as error:
        raise ConfigError(
            "--rate-limit-store must be as redis://host:6379/0, rediss:// for TLS, or unix:///path",
            param="rate_limit_store",
        ) from error
