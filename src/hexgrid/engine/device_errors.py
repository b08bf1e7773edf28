"""What torch raises when memory is short or the device is lost, as the engine understands it.

torch tells most of it in the text of a RuntimeError only.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hexgrid.engine.protocols import DeviceLostError

_SHORT_OF_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
_LOST = ("CUDA error",)


@contextmanager
def device_errors() -> Iterator[None]:
    """Errors of the block as `protocols.Runner` has them.

    Raises:
        MemoryError: the device had too little; what the failed pass held is free again.
        DeviceLostError: it may be that no later pass succeeds in this process.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or _tells(error, _SHORT_OF_MEMORY):
            # The traceback's frames hold the pass's tensors, as long as anybody holds the error.
            traceback.clear_frames(error.__traceback__)
            torch.cuda.empty_cache()
            raise MemoryError(str(error)) from error
        if isinstance(error, torch.AcceleratorError) or _tells(error, _LOST):
            raise DeviceLostError(str(error)) from error
        raise


def _tells(error: RuntimeError, texts: tuple[str, ...]) -> bool:
    return any(text in str(error) for text in texts)
