"""Memory that was freed while weights were loaded, and that the C library would keep."""

import ctypes


def trim_heap() -> None:
    """Give it back to the system, where the library can (glibc).

    Blocks that are freed while others are taken leave holes: a fifth of the size of the weights.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
