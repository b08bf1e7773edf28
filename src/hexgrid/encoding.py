"""Vectors as bytes: the dtypes and byte orders of the wire. Used by both ends."""

from typing import Any

import ml_dtypes
import numpy as np
import pybase64
from numpy.typing import NDArray

from hexgrid.quantized import dequantize, dtype_of, is_quantized, quantize
from hexgrid.wire import EmbedDtype, Endianness, QuantizedDtype

Vectors = NDArray[np.float32]

_DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "fp8_e4m3": np.dtype(ml_dtypes.float8_e4m3fn),
    "fp8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
}


def itemsize(dtype: EmbedDtype | QuantizedDtype) -> int:
    """Bytes of one number, or of the eight that a byte of the binary forms holds."""
    return 1 if is_quantized(dtype) else _DTYPES[dtype].itemsize


def to_bytes(vectors: Vectors, dtype: EmbedDtype | QuantizedDtype, endianness: Endianness) -> bytes:
    """`vectors`, any shape, as raw numbers one after another, rounded to nearest even.

    Those of quantized.py are made vector by vector. What lies past the range of another narrow type, as a
    raw hidden state can, becomes its largest number.
    """
    return _numbers(vectors, dtype, endianness).tobytes()


def to_base64(vector: Vectors, dtype: EmbedDtype | QuantizedDtype, endianness: Endianness) -> str:
    """`to_bytes` as base64 text."""
    # As bytes: ml_dtypes' types are none that a buffer can have.
    return pybase64.b64encode_as_string(_numbers(vector, dtype, endianness).view(np.uint8).data)


def from_bytes(
    data: bytes,
    dtype: EmbedDtype | QuantizedDtype = "float32",
    endianness: Endianness = "native",
) -> Vectors:
    """The inverse of `to_bytes`, as one flat float32 vector; that of integers is one vector of length 1."""
    if is_quantized(dtype):
        return dequantize(np.frombuffer(data, dtype_of(dtype)), dtype)
    numbers = np.frombuffer(data, dtype=_DTYPES[dtype])
    return _in_order(numbers, endianness).astype(np.float32)


def from_base64(
    text: str | memoryview,
    dtype: EmbedDtype | QuantizedDtype = "float32",
    endianness: Endianness = "native",
) -> Vectors:
    """The inverse of `to_base64`.

    Raises:
        binascii.Error: it is no base64, or has something between.
    """
    return from_bytes(pybase64.b64decode(text, validate=True), dtype, endianness)


def _numbers(
    vectors: Vectors, dtype: EmbedDtype | QuantizedDtype, endianness: Endianness
) -> NDArray[Any]:
    """See `to_bytes`: what its bytes are those of, one after another in memory."""
    if is_quantized(dtype):
        return quantize(vectors, dtype)
    if dtype != "float32":
        largest = float(ml_dtypes.finfo(_DTYPES[dtype]).max)
        vectors = vectors.clip(-largest, largest)
    return _in_order(np.ascontiguousarray(vectors, dtype=_DTYPES[dtype]), endianness)


def _in_order(numbers: NDArray[Any], endianness: Endianness) -> NDArray[Any]:
    """The same numbers with their bytes swapped where `endianness` is not this machine's."""
    native = "little" if np.little_endian else "big"
    if endianness in ("native", native) or numbers.itemsize == 1:
        return numbers
    # Through integers of the same width: ml_dtypes types know no byte order.
    return numbers.view(f"u{numbers.itemsize}").byteswap().view(numbers.dtype)
