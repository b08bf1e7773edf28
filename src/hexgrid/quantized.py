"""Vectors in 8 bits or 1 bit a number, for stores that keep many. Used by both ends.

int8      the vector times 127 / (its largest absolute number), rounded: -127 to 127, and one of the two is
          there. Each vector has its own factor, which is not sent: compare by cosine, which knows no factor.
          Divided by its length, it is the vector of length 1 again, but for the rounding.
uint8     the same plus 128: 1 to 255, 128 is zero. Take 128 off before anything is computed.
ubinary   a bit a number, 1 where it is not negative, eight in a byte, the first one in the highest bit.
binary    the same bytes minus 128, as signed ones.

The last two are Cohere's and vLLM's forms.
"""

from typing import Any, TypeGuard, get_args

import numpy as np
from numpy.typing import NDArray

from hexgrid.wire import QuantizedDtype

Vectors = NDArray[np.float32]

_QUANTIZED = frozenset(get_args(QuantizedDtype))


def is_quantized(dtype: str) -> TypeGuard[QuantizedDtype]:
    """Whether it is one of the above."""
    return dtype in _QUANTIZED


def dtype_of(dtype: QuantizedDtype) -> "np.dtype[Any]":
    """What the integers are."""
    return np.dtype(np.int8 if dtype in ("int8", "binary") else np.uint8)


def quantize(vectors: Vectors, dtype: QuantizedDtype) -> NDArray[Any]:
    """Float vectors [B, D] -> integers [B, D], or [B, D / 8] of the binary forms (D must divide by 8)."""
    if dtype in ("binary", "ubinary"):
        packed = np.packbits(vectors >= 0, axis=-1)
        return packed if dtype == "ubinary" else (packed.astype(np.int16) - 128).astype(np.int8)
    largest = np.abs(vectors).max(axis=-1, keepdims=True, initial=0)
    # Divided first: 127 by the least of numbers would be infinite.
    numbers = np.rint(vectors / np.where(largest > 0, largest, 1) * 127).astype(np.int8)
    return numbers if dtype == "int8" else (numbers.astype(np.int16) + 128).astype(np.uint8)


def dequantize(numbers: NDArray[Any], dtype: QuantizedDtype) -> Vectors:
    """Integers as `quantize` gives them -> vectors [B, D] of length 1 (zeros stay zeros)."""
    if dtype in ("binary", "ubinary"):
        packed = numbers.astype(np.int16) + (128 if dtype == "binary" else 0)
        bits = np.unpackbits(packed.astype(np.uint8), axis=-1)
        vectors = bits.astype(np.float32) * np.float32(2) - np.float32(1)
    else:
        vectors = numbers.astype(np.float32) - np.float32(128 if dtype == "uint8" else 0)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Vectors = vectors / np.maximum(norms, np.float32(1e-12))
    return unit
