"""Python's collector of garbage, kept away from what stays until the process ends."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def made_to_stay() -> Iterator[None]:
    """What the `with` block makes is looked through for garbage once, at its end, and never again.

    A fifth of the time that our imports take went into looking through them while they grew, and later every
    full collection went through all of it, and held every thread for a tenth of a second.
    """
    gc.disable()
    try:
        yield
        gc.collect()
        gc.freeze()
    finally:
        gc.enable()
