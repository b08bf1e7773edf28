"""uvicorn's server with an end of its own: how it drains, what a signal does, and the exit code.

first signal    probes get 503; --drain-delay later it listens no more; what runs gets --drain-timeout
second signal   whoever waits gets 503, and the process ends without waiting for the model
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socket import socket
from time import monotonic
from types import FrameType
from typing import Any

import uvicorn

from hexgrid.server.systemd import notify

# Exit codes. Of a process that a second signal stopped: as if it had killed it.
DRAINED = 0
GAVE_UP = 3
_KILLED_BY = 128

_TICK_SECONDS = 0.05
# What answers of 503 get to leave the process.
_FAREWELL_SECONDS = 2.0
_CLOSE = (b"connection", b"close")

_logger = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """Calls `on_stop` when it is told to stop and `on_end` when it listens no more; then drains."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        drain_delay: float,
        drain_timeout: float,
        on_stop: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self.exit_code = DRAINED
        self._drain_delay = drain_delay
        self._drain_timeout = drain_timeout
        self._on_stop = on_stop
        self._closes_at: float | None = None
        self._is_ending = False
        # Idle TLS connections that we closed: clients that do not look at theirs never answer our goodbye.
        self._left: set[Any] = set()

    def take_signals(self) -> None:
        """Put `handle_exit` in place for good; before anybody is told that we serve, so that none is lost."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own handlers, which it would put in place while it runs: none."""
        yield

    def handle_exit(self, sig: int, _: FrameType | None) -> None:
        """The first signal drains, the second ends."""
        if not self.should_exit:
            self.should_exit = True
            return
        self.force_exit = True
        self.exit_code = _KILLED_BY + sig
        if self._is_ending:  # everybody has been answered; the event loop may wait for the model
            os._exit(self.exit_code)

    def stop(self, *, drain_timeout: float) -> None:
        """As the first signal, from any thread; without --drain-delay, and with another --drain-timeout."""
        self._drain_delay, self._drain_timeout = 0.0, drain_timeout
        self.should_exit = True

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        notify("READY=1")

    async def on_tick(self, counter: int) -> bool:
        """Whether to go on to `shutdown`."""
        if not await super().on_tick(counter):
            return False
        if self._closes_at is None:
            self._closes_at = monotonic() + self._drain_delay
            self._say_that_we_stop()
        return self.force_exit or monotonic() >= self._closes_at

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Listen no more, let what runs be answered, then stop the application."""
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        _logger.info("Listening no more; %d requests run", len(self.server_state.tasks))
        if not await self._is_quiet(self._drain_timeout, lambda: self.force_exit):
            await self._give_up()
        self._is_ending = True
        if self.force_exit:
            _logger.warning("Stopped by a second signal")
            os._exit(self.exit_code)
        for connection in self._left & self.server_state.connections:
            connection.transport.abort()
        await self.lifespan.shutdown()

    def _say_that_we_stop(self) -> None:
        notify("STOPPING=1")
        self._on_stop()
        # Clients that keep their connections are sent elsewhere, too.
        self.config.encoded_headers.append(_CLOSE)
        self.server_state.default_headers.append(_CLOSE)

    async def _is_quiet(self, seconds: float, hurry: Callable[[], bool] = lambda: False) -> bool:
        """Whether everybody is answered within so many seconds; at once False if we are to hurry."""
        deadline = monotonic() + seconds
        while self._is_busy():
            await asyncio.sleep(
                _TICK_SECONDS
            )  # also where there is no time: what was closed is gone then
            if hurry() or monotonic() >= deadline:
                return not self._is_busy()
        return True

    def _is_busy(self) -> bool:
        """Whether a request runs or its answer is on the way; connections without one are closed."""
        for connection in list(self.server_state.connections):
            was_open = not connection.transport.is_closing()
            connection.shutdown()
            if self.config.is_ssl and was_open and connection.transport.is_closing():
                self._left.add(connection)
        return bool(self.server_state.tasks or self.server_state.connections - self._left)

    async def _give_up(self) -> None:
        """Cancel what runs; `DeadlineMiddleware` answers 503."""
        if not self.force_exit:
            self.exit_code = GAVE_UP
        _logger.error("Stopping with %d requests unanswered", len(self.server_state.tasks))
        for task in self.server_state.tasks:
            task.cancel()
        await self._is_quiet(_FAREWELL_SECONDS)
