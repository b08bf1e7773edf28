"""A matrix in the order that oneDNN's kernel reads, as bytes that a file can keep, and back.

To bring int8 weights into that order takes seconds for the larger models. torch keeps the outcome in an
opaque tensor; its compiler (AOTInductor) writes such constants into the files that it makes, and makes
tensors of them again through torch's C interface (torch/csrc/inductor/aoti_torch/c/shim.h), as is done here.
What the bytes mean depends on the processor and on oneDNN's version: a `Layout` says it.
"""

import ctypes
import hashlib
from typing import NamedTuple

import torch
from torch import Tensor

_TRIED = (32, 64)  # the shape of a small matrix
_PRIME = 251
_new_capsule = ctypes.PYFUNCTYPE(
    ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
)(("PyCapsule_New", ctypes.pythonapi))


Shape = tuple[int, int]  # out, in


class Layout(NamedTuple):
    """How oneDNN lays out an int8 matrix on this machine."""

    shape: Shape
    num_bytes: int
    descriptor: bytes  # oneDNN's memory descriptor; the bytes between its fields are anything
    order: str  # the same wherever equal matrices are laid out as equal bytes


def lay_out(values: Tensor) -> Tensor:
    """int8 `values` [out, in] in the order of the kernel: an opaque tensor [in, out]."""
    packed: Tensor = torch.ops.onednn.qlinear_prepack(values, None)
    return packed


def num_bytes(packed: Tensor) -> int:
    """Of what `lay_out` gives: the values, and what oneDNN adds to them."""
    size: int = torch.ops.mkldnn._nbytes(packed)  # noqa: SLF001
    return size


def content(packed: Tensor) -> Tensor:
    """The bytes of what `lay_out` gives, uint8 [num_bytes], where they lie."""
    address = torch.ops.mkldnn.data_ptr(packed)
    held = (ctypes.c_uint8 * num_bytes(packed)).from_address(address)
    held.packed = packed  # type: ignore[attr-defined] # lives as long as what reads it
    return torch.frombuffer(held, dtype=torch.uint8)


def layout_of(shape: Shape) -> Layout:
    """That of a matrix of this shape, found out by one that is made up."""
    packed = lay_out(_made_up(shape))
    order = hashlib.blake2b(content(packed).numpy().data, digest_size=16).hexdigest()
    return Layout(shape, num_bytes(packed), _descriptor(packed), order)


def restored(held: Tensor, layout: Layout) -> Tensor:
    """What `lay_out` gave, of its `content`, which it reads where it lies.

    Raises:
        ValueError: the content is not of this layout's size.
        AttributeError, RuntimeError: this torch makes no tensor of it (see `can_restore`).
    """
    if held.dtype != torch.uint8 or held.numel() != layout.num_bytes or not held.is_contiguous():
        raise ValueError(
            f"The content must be uint8 [{layout.num_bytes}]; found {held.dtype} {list(held.shape)}"
        )
    # Through this library the loader finds the symbols of those that it needs, wherever they lie.
    torch_library = ctypes.CDLL(torch._C.__file__)  # noqa: SLF001
    rows, columns = layout.shape
    sizes, strides = (ctypes.c_int64 * 2)(columns, rows), (ctypes.c_int64 * 2)()
    handle = ctypes.c_void_p()
    failed = torch_library.aoti_torch_create_tensor_from_blob_v2(
        ctypes.c_void_p(held.data_ptr()),
        ctypes.c_int64(len(sizes)),
        sizes,
        strides,
        ctypes.c_int64(0),  # where it begins
        ctypes.c_int32(torch_library.aoti_torch_dtype_int8()),
        ctypes.c_int32(torch_library.aoti_torch_device_type_cpu()),
        ctypes.c_int32(0),  # of the device
        ctypes.byref(handle),
        ctypes.c_int32(torch_library.aoti_torch_layout__mkldnn()),
        layout.descriptor,
        ctypes.c_int64(len(layout.descriptor)),
    )
    if failed:
        raise RuntimeError("torch made no tensor of a matrix that oneDNN had laid out")
    # The function for one tensor would keep it for ever (torch 2.13).
    packed: Tensor
    (packed,) = torch._C._aoti.alloc_tensors_by_stealing_from_void_ptrs(  # noqa: SLF001
        [_new_capsule(handle, None, None)]
    )
    packed.held = held  # type: ignore[attr-defined] # as above
    return packed


def can_restore() -> bool:
    """Whether what was laid out can be brought back here: tried on a small matrix."""
    try:
        packed = lay_out(_made_up(_TRIED))
        layout = layout_of(_TRIED)
        found = restored(content(packed).clone(), layout)
        same = _descriptor(found) == layout.descriptor
        return same and torch.equal(content(found), content(packed))
    except (AttributeError, RuntimeError, OSError):
        return False


def _descriptor(packed: Tensor) -> bytes:
    serialised: Tensor = torch.ops.mkldnn._get_mkldnn_serialized_md(packed)  # noqa: SLF001
    return bytes(serialised.tolist())


def _made_up(shape: Shape) -> Tensor:
    """Values [out, in] of which neighbours differ, and rows."""
    rows, columns = shape
    some = torch.arange(-_PRIME // 2, _PRIME // 2, dtype=torch.int8)
    return some.repeat(rows * columns // len(some) + 1)[: rows * columns].reshape(shape)
