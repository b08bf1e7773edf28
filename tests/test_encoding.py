"""Vectors as bytes: every dtype and byte order, against torch and numpy."""

import base64
import sys
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hexgrid import encoding
from hexgrid.encoding import Vectors
from hexgrid.wire import EmbedDtype, Endianness

DTYPES: tuple[EmbedDtype, ...] = get_args(EmbedDtype)
ENDIANNESSES: tuple[Endianness, ...] = get_args(Endianness)
TORCH_DTYPES: dict[EmbedDtype, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "fp8_e4m3": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}

# Every finite float32, subnormal ones and those past the narrow types' range among them.
any_vector = arrays(np.float32, 8, elements=st.floats(width=32, allow_nan=False))


def torch_bytes(vector: Vectors, dtype: EmbedDtype) -> bytes:
    return bytes(torch.from_numpy(vector).to(TORCH_DTYPES[dtype]).view(torch.uint8).numpy())


def random_vectors(*shape: int) -> Vectors:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("dtype", DTYPES)
@given(vector=any_vector)
def test_numbers_in_range_are_rounded_as_torch_rounds_them(
    dtype: EmbedDtype, vector: Vectors
) -> None:
    largest = torch.finfo(TORCH_DTYPES[dtype]).max
    vector = vector.clip(-largest, largest)

    assert encoding.to_bytes(vector, dtype, "little") == torch_bytes(vector, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_number_past_the_range_becomes_the_largest_one(dtype: EmbedDtype) -> None:
    vector = np.array([3.4e38, -3.4e38], np.float32)
    largest = min(torch.finfo(TORCH_DTYPES[dtype]).max, float(vector[0]))

    data = encoding.to_bytes(vector, dtype, "native")

    assert encoding.from_bytes(data, dtype).tolist() == [largest, -largest]


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_vectors_have_the_very_bytes_of_torch(dtype: EmbedDtype) -> None:
    vectors = random_vectors(1000)

    assert encoding.to_bytes(vectors, dtype, "little") == torch_bytes(vectors, dtype)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(1 + 1 / 256, 1.0), (1 + 3 / 256, 1 + 1 / 64)],
    ids=["down to even", "up to even"],
)
def test_bfloat16_ties_go_to_the_even_neighbour(number: float, expected: float) -> None:
    data = encoding.to_bytes(np.array([number], np.float32), "bfloat16", "native")

    assert encoding.from_bytes(data, "bfloat16").tolist() == [expected]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("endianness", ENDIANNESSES)
def test_what_a_dtype_can_hold_comes_back_from_bytes_and_base64(
    dtype: EmbedDtype, endianness: Endianness
) -> None:
    vector = np.array([0.0, -0.0, 1.0, -1.5, 0.25, 448.0, 2**-6], np.float32)

    data = encoding.to_bytes(vector, dtype, endianness)
    text = encoding.to_base64(vector, dtype, endianness)

    assert base64.b64decode(text, validate=True) == data
    for back in (
        encoding.from_bytes(data, dtype, endianness),
        encoding.from_base64(text, dtype, endianness),
    ):
        assert back.dtype == np.float32
        assert back.tobytes() == vector.tobytes()  # the sign of zero, too


@pytest.mark.parametrize("dtype", DTYPES)
def test_big_endian_numbers_are_the_little_ones_byte_by_byte_reversed(dtype: EmbedDtype) -> None:
    vector, size = random_vectors(16), encoding.itemsize(dtype)

    little = encoding.to_bytes(vector, dtype, "little")
    big = encoding.to_bytes(vector, dtype, "big")

    numbers = [little[start : start + size] for start in range(0, len(little), size)]
    assert big == b"".join(number[::-1] for number in numbers)


@pytest.mark.parametrize("dtype", DTYPES)
def test_native_is_the_byte_order_of_this_machine(dtype: EmbedDtype) -> None:
    vector, here = random_vectors(16), sys.byteorder

    assert encoding.to_bytes(vector, dtype, "native") == encoding.to_bytes(vector, dtype, here)


@pytest.mark.parametrize("dtype", DTYPES)
def test_itemsize_is_that_of_torch(dtype: EmbedDtype) -> None:
    assert encoding.itemsize(dtype) == TORCH_DTYPES[dtype].itemsize


def test_several_vectors_lie_one_after_another() -> None:
    vectors = random_vectors(3, 4)

    joined = b"".join(encoding.to_bytes(row, "float32", "native") for row in vectors)

    assert encoding.to_bytes(vectors, "float32", "native") == joined


def test_a_vector_that_is_a_strided_view_is_read_in_its_own_order() -> None:
    column = random_vectors(4, 3)[:, 1]

    data = encoding.to_bytes(column, "float32", "native")

    assert encoding.from_bytes(data).tolist() == column.tolist()


@given(vector=any_vector)
def test_float32_is_the_default_and_loses_nothing(vector: Vectors) -> None:
    text = encoding.to_base64(vector, "float32", "native")

    assert encoding.from_base64(text).tobytes() == vector.tobytes()


@pytest.mark.parametrize("odd", ["\\", " ", "=", "\n", "\u00e9"])
def test_base64_with_something_between_is_none(odd: str) -> None:
    text = encoding.to_base64(random_vectors(8), "float32", "native")

    with pytest.raises(ValueError, match=r"base64|padding|ASCII"):
        encoding.from_base64(text[:8] + odd + text[8:])
