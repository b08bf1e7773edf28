"""Times of one connection: how long a request may arrive, and how long an answer may lie unread.

Timers run only while something is expected of the client; what the server itself keeps from being read or
written is not the client's fault.
"""

import asyncio
from collections.abc import Callable

from hexgrid.config import ServerConfig
from hexgrid.errors import SlowRequestError
from hexgrid.server.transports import CountedTransport

# Told the error and a short word for it.
OnLate = Callable[[SlowRequestError, str], None]


class Arrival:
    """The line and headers of a request, and then its body, each with a time of its own."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: ServerConfig,
        *,
        is_paused: Callable[[], bool],
        on_late: OnLate,
    ) -> None:
        self._loop = loop
        self._limits = limits
        self._is_paused = is_paused
        self._on_late = on_late
        self._timer: asyncio.TimerHandle | None = None
        self._started_at = 0.0
        self._num_bytes = 0  # of the body, since its rate was looked at last

    def __bool__(self) -> bool:
        """Whether something is expected."""
        return self._timer is not None

    def expect_head(self) -> None:
        """From now on, the line and headers."""
        self._timer = self._loop.call_later(self._limits.header_timeout, self._on_late_head)

    def expect_body(self) -> None:
        """From now on, the body."""
        self._started_at = self._loop.time()
        self._await_body()

    def count_body(self, num_bytes: int) -> None:
        """So many more bytes of the body are here."""
        self._num_bytes += num_bytes

    def stop(self) -> None:
        """Expect nothing."""
        self._num_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _await_body(self) -> None:
        left = max(self._started_at + self._limits.body_timeout - self._loop.time(), 0)
        window = self._limits.stall_timeout
        if left <= window:
            self._timer = self._loop.call_later(left, self._on_late_body)
        else:
            self._timer = self._loop.call_later(window, self._check_rate)

    def _on_late_head(self) -> None:
        self._timer = None
        if self._is_paused():
            self.expect_head()
            return
        seconds = self._limits.header_timeout
        error = SlowRequestError(f"The request's headers did not arrive within {seconds:g} seconds")
        self._on_late(error, "header_timeout")

    def _on_late_body(self) -> None:
        self._timer = None
        if self._is_paused():
            self.expect_body()
            return
        seconds = self._limits.body_timeout
        error = SlowRequestError(f"The request's body did not arrive within {seconds:g} seconds")
        self._on_late(error, "body_timeout")

    def _check_rate(self) -> None:
        self._timer = None
        rate, seconds = self._limits.min_transfer_rate, self._limits.stall_timeout
        if self._is_paused() or self._num_bytes >= rate * seconds:
            self._num_bytes = 0
            self._await_body()
            return
        error = SlowRequestError(
            f"The request's body arrives too slowly: {self._num_bytes} bytes in {seconds:g} seconds; "
            f"at least {rate} a second are expected"
        )
        self._on_late(error, "slow_body")


class ReaderWatch:
    """Tells when a client has stopped to take what was written for it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: ServerConfig,
        transport: CountedTransport,
        on_stalled: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._limits = limits
        self._transport = transport
        self._on_stalled = on_stalled
        self._timer: asyncio.TimerHandle | None = None
        self._unread = self._taken = 0  # when its rate was looked at last

    def start(self) -> None:
        """Look from now on until all is taken."""
        if self._timer is None:
            self._unread = self._transport.num_unread()
            self._taken = self._transport.num_written - self._unread
            self._timer = self._loop.call_later(self._limits.stall_timeout, self._check)

    def stop(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        self._timer = None
        unread = self._transport.num_unread()
        taken = self._transport.num_written - unread - self._taken
        expected = self._limits.min_transfer_rate * self._limits.stall_timeout
        # Whoever has taken all that was there is not slow, however little that was.
        if unread and taken < min(self._unread, expected):
            self._on_stalled()
        elif unread:
            self.start()
