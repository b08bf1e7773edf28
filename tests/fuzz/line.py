"""A connection on which anything can be sent, and answers be read."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from socket import SO_LINGER, SOL_SOCKET
from typing import cast

from tests.fuzz.answers import Answer, MalformedError, take

# In which a server that is not hung answers or closes, however busy the machine is.
DEADLINE = 240.0
_LINGER_OFF = struct.pack("ii", 1, 0)


class Line(asyncio.Protocol):
    """One connection; what has come is kept also when the server closes it."""

    def __init__(self, now: float) -> None:
        self._ready_at = now
        self.delay = 0.0  # seconds, at most, that we ourselves were late with what could be sent
        self._buffer = bytearray()
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self.has_ended = False  # nothing more will come
        self.is_lost = False

    async def send(self, pieces: list[bytes]) -> None:
        """Send as much as the server takes, each piece by itself."""
        for piece in pieces:
            if self.is_lost:
                break
            now = asyncio.get_running_loop().time()
            self.delay = max(self.delay, now - self._ready_at)
            self._ready_at = now
            self._transport.write(piece)
            await asyncio.sleep(0)  # so that it is not one with the next
            if not self._writable.is_set():
                await self._writable.wait()
                self._ready_at = asyncio.get_running_loop().time()

    async def answer(self, *, has_body: bool = True) -> Answer | None:
        """The next answer; None where the connection ends instead.

        Raises:
            MalformedError: what came is none, or a part of one.
            TimeoutError: nothing came.
        """
        async with asyncio.timeout(DEADLINE):
            while (found := take(self._buffer, has_body=has_body)) is None and not self.has_ended:
                self._news.clear()
                await self._news.wait()
        if found is None and self._buffer:
            raise MalformedError(f"a part of an answer: {bytes(self._buffer[:100])!r}")
        return found

    def half_close(self) -> None:
        """Say that nothing more is sent."""
        if not self.is_lost:
            with suppress(OSError):  # the server was quicker
                self._transport.write_eof()

    def leave(self) -> None:
        """Close it at once, without a word."""
        if not self.is_lost:
            self._transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, _LINGER_OFF)
        self._transport.abort()

    def close(self) -> None:
        self._transport.close()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._news.set()

    def eof_received(self) -> bool:
        self.has_ended = True
        self._news.set()
        return True  # it may still be written to

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.has_ended = self.is_lost = True
        self._news.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()


@asynccontextmanager
async def dial(port: int) -> AsyncIterator[Line]:
    """A connection to the server on this machine."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    _, line = await loop.create_connection(lambda: Line(start), "127.0.0.1", port)
    try:
        yield line
    finally:
        line.close()
