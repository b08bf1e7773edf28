"""One upstream server: calls of it, each with an end, and what is known of it."""

import asyncio
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import NamedTuple

import httpx2

from hexgrid.config.settings import Secret
from hexgrid.encoding import Vectors
from hexgrid.metrics import Outcome, UpstreamMetrics
from hexgrid.upstream.address import Address
from hexgrid.upstream.answers import (
    Asking,
    BadAnswerError,
    Card,
    message_of,
    read_cards,
    seconds_of,
)
from hexgrid.upstream.breaker import STATES, Breaker
from hexgrid.wire import TokenIds

# Below the 5 s after which vLLM closes a connection that is not used: what is sent then would be lost.
_KEEP_ALIVE_SECONDS = 3.0
_CONNECT_SECONDS = 5.0
# Of everything that takes no computing.
_STATUS_SECONDS = 10.0
_MOST_STATUS_BYTES = 2**20
_MOST_RETRY_AFTER = 600
_REFUSALS = (400, 413, 422, 500)


class CallFailedError(Exception):
    """The upstream is at fault: it cannot be reached, breaks off, is too slow, or answers nonsense."""

    def __init__(self, reason: str, *, may_have_run: bool = True, hung: bool = False) -> None:
        super().__init__(reason)
        self.may_have_run = may_have_run
        self.hung = hung


class CallRefusedError(Exception):
    """The upstream answers that it will not compute these inputs, or failed at them."""


class UpstreamBusyError(Exception):
    """The upstream has too much to do; `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"busy for {retry_after} s")
        self.retry_after = retry_after


class _Reply(NamedTuple):
    status: int
    headers: httpx2.Headers
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Access:
    """How upstreams are reached: with this key, and with at most so many calls at a time."""

    key: Secret | None
    max_calls: int


class Upstream:
    """Everything is called in one event loop; `number` is its place in the settings, which metrics show."""

    def __init__(
        self, number: int, address: Address, access: Access, metrics: UpstreamMetrics
    ) -> None:
        self.number = number
        self.address = address
        self.breaker = Breaker()
        self.asking: Asking | None = None  # once it has been found to fit
        self.outstanding_tokens = 0
        self.busy_until = 0.0  # in the loop's time
        self._metrics = metrics
        self._calls: set[asyncio.Task[_Reply]] = set()
        key = {} if access.key is None else {"authorization": f"Bearer {access.key.value}"}
        limits = httpx2.Limits(
            max_keepalive_connections=access.max_calls, keepalive_expiry=_KEEP_ALIVE_SECONDS
        )
        uds = address.uds
        self._client = httpx2.AsyncClient(
            base_url=address.url,
            headers={"accept-encoding": "identity", "user-agent": "hexgrid", **key},
            timeout=httpx2.Timeout(None, connect=_CONNECT_SECONDS),
            limits=limits,
            transport=None if uds is None else httpx2.AsyncHTTPTransport(uds=uds, limits=limits),
        )
        metrics.outstanding_tokens.set_function(lambda: self.outstanding_tokens)
        metrics.breaker_state.set_function(lambda: STATES.index(self.breaker.state))

    @property
    def is_usable(self) -> bool:
        """Whether calls may go there."""
        return self.breaker.state == "closed"

    async def vectors(
        self, asking: Asking, token_ids: Items[TokenIds], salt: bytes, seconds: float
    ) -> Vectors:
        """The vectors of `token_ids`, in at most so many seconds.

        Raises:
            CallFailedError, CallRefusedError, UpstreamBusyError.
        """
        num_tokens = sum(map(len, token_ids))
        self.outstanding_tokens += num_tokens
        outcome: Outcome = "failed"
        try:
            reply = await self._abortable(
                "POST",
                "/v1/embeddings",
                asking.body(token_ids, salt),
                seconds=seconds,
                most_bytes=asking.most_bytes(len(token_ids)),
            )
            vectors = await self._read(reply, asking, len(token_ids))
            outcome = "answered"
        except CallRefusedError:
            outcome = "refused"
            raise
        except UpstreamBusyError:
            outcome = "busy"
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self.outstanding_tokens -= num_tokens
            self._metrics.call(outcome)
        return vectors

    async def cards(self) -> list[Card]:
        """The models that it lists; none where it keeps no list.

        Raises:
            CallFailedError: it cannot be asked, or answers nonsense.
        """
        reply = await self._send("GET", "/v1/models", seconds=_STATUS_SECONDS)
        if reply.status in (404, 405):
            return []
        if reply.status != 200:
            raise _failure(reply)
        try:
            return read_cards(reply.body)
        except BadAnswerError as error:
            raise CallFailedError(str(error)) from error

    async def is_alive(self) -> bool:
        """Whether it answers at all and does not say that it is ill."""
        try:
            reply = await self._send("GET", "/health", seconds=_STATUS_SECONDS)
        except CallFailedError:
            return False
        return reply.status < 500

    def abort_calls(self) -> None:
        """Let every call that runs fail now: nobody will answer it."""
        for task in self._calls:
            task.cancel()

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def _read(self, reply: _Reply, asking: Asking, num_inputs: int) -> Vectors:
        if reply.status == 200:
            try:
                return asking.read(reply.body, num_inputs)
            except BadAnswerError as error:
                raise CallFailedError(f"It gave {error}") from error
        if reply.status == 429:
            raise UpstreamBusyError(seconds_of(reply.headers, _MOST_RETRY_AFTER))
        # vLLM says 503 when it is busy as well as when it is dead, and 500 to an input at fault as well as
        # to all when its engine is; its health tells.
        if reply.status in (500, 503) and not await self.is_alive():
            raise _failure(reply)
        if reply.status == 503:
            raise UpstreamBusyError(seconds_of(reply.headers, _MOST_RETRY_AFTER))
        if reply.status in _REFUSALS:
            raise CallRefusedError(f"{reply.status}: {message_of(reply.body)}")
        raise _failure(reply)

    async def _abortable(
        self, method: str, path: str, body: bytes, *, seconds: float, most_bytes: int
    ) -> _Reply:
        call = self._send(method, path, body, seconds=seconds, most_bytes=most_bytes)
        task = asyncio.create_task(call)
        self._calls.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            ours = asyncio.current_task()
            if ours is not None and ours.cancelling():
                raise
            raise CallFailedError("It stopped answering while it computed") from None
        finally:
            self._calls.discard(task)

    async def _send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        seconds: float,
        most_bytes: int = _MOST_STATUS_BYTES,
    ) -> _Reply:
        headers = {} if body is None else {"content-type": "application/json"}
        try:
            async with (
                asyncio.timeout(seconds),
                self._client.stream(method, path, content=body, headers=headers) as response,
            ):
                parts, num_bytes = [], 0
                async for part in response.aiter_bytes():
                    parts.append(part)
                    num_bytes += len(part)
                    if num_bytes > most_bytes:
                        raise CallFailedError(f"It answered with more than {most_bytes} bytes")
                return _Reply(response.status_code, response.headers, b"".join(parts))
        except TimeoutError:
            raise CallFailedError(
                f"It did not answer within {seconds:g} seconds", hung=True
            ) from None
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise CallFailedError(f"It cannot be reached: {error}", may_have_run=False) from error
        except httpx2.HTTPError as error:
            raise CallFailedError(f"It broke off: {type(error).__name__} {error}") from error


def _failure(reply: _Reply) -> CallFailedError:
    hint = ""
    if reply.status in (401, 403):
        hint = "; it wants another key: set HEXGRID_UPSTREAM_API_KEY"
    return CallFailedError(f"It answered {reply.status}: {message_of(reply.body)}{hint}")
