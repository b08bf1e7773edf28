"""Memory that was freed, and that the C library would keep."""

import ctypes
import functools
import threading
import time
from collections.abc import Callable

_TRIM_SECONDS = 10.0


def trim_heap() -> None:
    """Give it back to the system, where the library can (glibc): tens of milliseconds for a gigabyte.

    Blocks that are freed while others are taken leave holes: a fifth of the size of the weights while they
    are loaded, hundreds of megabytes after an hour of passes of all lengths.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class HeapTrimmer:
    """A thread that trims the heap `seconds` after it was used, once however often it was, while we live."""

    def __init__(self, seconds: float, trim: Callable[[], None] = trim_heap) -> None:
        self._seconds = seconds
        self._trim = trim
        self._used = threading.Event()
        threading.Thread(target=self._run, name="hexgrid-heap", daemon=True).start()

    def used(self) -> None:
        """Memory was taken and freed."""
        self._used.set()

    def _run(self) -> None:
        while True:
            self._used.wait()
            time.sleep(self._seconds)
            self._used.clear()
            self._trim()


@functools.cache
def heap_trimmer() -> HeapTrimmer:
    """The one of this process, for all models."""
    return HeapTrimmer(_TRIM_SECONDS)
