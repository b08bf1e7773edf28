"""torch's errors, as the engine understands them."""

import weakref

import pytest
import torch

from hexgrid.engine.device_errors import device_errors
from hexgrid.engine.protocols import DeviceLostError


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), MemoryError),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), MemoryError),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `c`"), MemoryError),
        (torch.AcceleratorError("CUDA error: out of memory"), MemoryError),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), DeviceLostError),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), DeviceLostError),
        (RuntimeError("The size of tensor a (3) must match that of b (4)"), RuntimeError),
        (ValueError("CUDA error"), ValueError),
    ],
)
def test_an_error_is_told_by_its_kind(error: Exception, expected: type[Exception]) -> None:
    with pytest.raises(expected) as caught, device_errors():
        raise error

    assert caught.type is expected


def test_too_little_memory_of_the_processor_is_known() -> None:
    with pytest.raises(MemoryError, match="allocate"), device_errors():
        torch.empty(2**52, dtype=torch.uint8)


def test_what_a_failed_pass_held_is_free_while_its_error_is_kept() -> None:
    """The halves of the batch are tried while somebody has the error."""
    held: list[weakref.ref[torch.Tensor]] = []

    def run() -> None:
        hidden = torch.zeros(10)
        held.append(weakref.ref(hidden))
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(MemoryError) as caught, device_errors():
        run()

    assert caught.value.__cause__ is not None
    assert held[0]() is None


def test_a_block_that_works_is_left_alone() -> None:
    with device_errors():
        assert torch.ones(3).sum() == 3
