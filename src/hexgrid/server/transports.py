"""What a connection writes on: it counts, and lets an answer leave in one piece."""

import asyncio
import fcntl
import struct
import termios
from asyncio import Transport
from collections.abc import Callable
from typing import Any

# Bytes of a body that are copied behind their head: for more, a system call of their own takes less time.
_MOST_JOINED = 2**16


class CountedTransport:
    """A transport that knows how much of what was written the other side has not taken yet."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.is_closing = transport.is_closing  # asked several times a request
        self.num_written = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """As the transport's own."""
        self.num_written += len(data)
        self._transport.write(data)

    def num_unread(self) -> int:
        """Bytes in this process, and in the kernel as far as it tells."""
        return self._transport.get_write_buffer_size() + self._num_in_kernel()

    def _num_in_kernel(self) -> int:
        sock = self._transport.get_extra_info("socket")
        try:
            (number,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4))
        except (OSError, ValueError):  # closed already, or a system that does not tell
            return 0
        return int(number)


class AnswerTransport:
    """What a request is answered on: where the answer is the last, uvicorn closes it.

    uvicorn writes an answer's head and its body one after the other; they leave together. Alone, each would
    be a system call and a packet, and wake the client up. What nothing follows leaves when the answer is
    complete (`flush`), or at the end of this turn of the event loop.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: CountedTransport,
        on_close: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._on_close = on_close
        self._held = b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """As the transport's own."""
        if not self._held:
            self._held = data
            self._loop.call_soon(self.flush)
        elif len(data) <= _MOST_JOINED:
            joined, self._held = self._held + data, b""
            self._transport.write(joined)
        else:
            self.flush()
            self._transport.write(data)

    def flush(self) -> None:
        """Write what is held."""
        if self._held:
            data, self._held = self._held, b""
            self._transport.write(data)

    def close(self) -> None:
        """Write what is held; then the connection ends as its rules say."""
        self.flush()
        self._on_close()
