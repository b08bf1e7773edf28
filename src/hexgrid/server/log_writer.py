"""Lines of the log to a stream, in order, from any thread.

The line of every request is left to a thread, which makes those of a twentieth of a second and writes them
together: it costs the event loop little, and a reader that stalls delays lines but no answers. If too many
wait, new ones are dropped and counted. Everything else is rare, and may be the last that a process says: it
is written at once.
"""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

_GATHER_SECONDS = 0.05
_CLOSE_SECONDS = 5.0
MOST_WAITING = 20_000


class LineWriter:
    """Writes to `stream` until it is closed; what the stream refuses is lost, and raises nothing.

    `tell_dropped` is told how many lines were dropped, from the thread, once there is room again.
    """

    def __init__(self, stream: TextIO, tell_dropped: Callable[[int], None]) -> None:
        self._stream = stream
        self._tell_dropped = tell_dropped
        self._waiting: deque[Callable[[], str]] = deque()
        self._num_dropped = 0
        self._lock = (
            threading.RLock()
        )  # of the stream; a destructor may log in the middle of a write
        self._news = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hexgrid-log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Write what waits, and then this line, before it returns."""
        with self._lock:
            self._waiting.append(lambda: line)
            self._write_waiting()

    def write_soon(self, line: Callable[[], str]) -> None:
        """Leave it to the thread to make a line and to write it."""
        if len(self._waiting) >= MOST_WAITING:
            self._num_dropped += 1
            return
        self._waiting.append(line)
        if not self._news.is_set():
            self._news.set()

    def close(self) -> None:
        """Write what waits, if the stream takes it; lines that are left to the thread later are lost."""
        self._closing.set()
        self._news.set()
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._news.wait()
            self._closing.wait(_GATHER_SECONDS)
            self._news.clear()
            with self._lock:
                self._write_waiting()
            if self._num_dropped:
                dropped, self._num_dropped = self._num_dropped, 0
                self._tell_dropped(dropped)

    def _write_waiting(self) -> None:
        lines = []
        while self._waiting:
            lines.append(self._waiting.popleft()() + "\n")
        with suppress(OSError, ValueError):  # its reader is gone, or it was closed
            self._stream.write("".join(lines))
            self._stream.flush()
