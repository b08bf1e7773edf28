"""Vectors in 8 bits and in 1: the forms of Cohere and vLLM, and what comes back from them."""

import base64
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hexgrid import encoding
from hexgrid.encoding import Vectors
from hexgrid.quantized import dequantize, dtype_of, quantize
from hexgrid.wire import QuantizedDtype

DTYPES: tuple[QuantizedDtype, ...] = get_args(QuantizedDtype)
any_vectors = arrays(
    np.float32, (3, 16), elements=st.floats(-1, 1, width=32, allow_subnormal=False)
)


def random_vectors() -> Vectors:
    vectors = np.random.default_rng(0).standard_normal((50, 256), dtype=np.float32)
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


@pytest.mark.parametrize(
    ("vector", "binary", "ubinary"),
    [
        ([1, -1] * 4, 42, 170),
        ([0.5] * 8, 127, 255),
        ([-0.5] * 8, -128, 0),
        ([0.0] * 8, 127, 255),
        ([1] + [-1] * 7, 0, 128),
        ([-1] * 7 + [1], -127, 1),
    ],
)
def test_signs_are_packed_as_vllm_packs_them(
    vector: list[float], binary: int, ubinary: int
) -> None:
    vectors = np.array([vector], np.float32)

    assert quantize(vectors, "binary").tolist() == [[binary]]
    assert quantize(vectors, "ubinary").tolist() == [[ubinary]]


@pytest.mark.parametrize(
    ("vector", "int8"),
    [
        ([1, -0.5, 0, 0.25], [127, -64, 0, 32]),
        ([-1e-3, 5e-4, 0, 0], [-127, 64, 0, 0]),
        ([0, 0, 0, 0], [0, 0, 0, 0]),
    ],
)
def test_the_largest_number_becomes_127_and_the_others_in_proportion(
    vector: list[float], int8: list[int]
) -> None:
    vectors = np.array([vector], np.float32)

    assert quantize(vectors, "int8").tolist() == [int8]
    assert quantize(vectors, "uint8").tolist() == [[number + 128 for number in int8]]


def test_the_least_of_numbers_are_no_fault() -> None:
    assert quantize(np.array([[1e-40, -5e-41]], np.float32), "int8").tolist() == [[127, -64]]


@given(vectors=any_vectors)
def test_int8_is_the_nearest_integer_and_never_minus_128(vectors: Vectors) -> None:
    found = quantize(vectors, "int8").astype(np.float64)

    largest = np.abs(vectors.astype(np.float64)).max(axis=1, keepdims=True)
    exact = np.divide(vectors * 127.0, largest, where=largest > 0, out=np.zeros_like(found))
    assert np.abs(found - exact).max() <= 0.5 + 1e-4
    assert np.abs(found).max() <= 127


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_is_the_same_alone_and_in_company(dtype: QuantizedDtype) -> None:
    vectors = random_vectors()

    alone = [quantize(vector, dtype).tolist() for vector in vectors]

    assert quantize(vectors, dtype).tolist() == alone


@pytest.mark.parametrize(("dtype", "least"), [("int8", 0.9999), ("uint8", 0.9999), ("binary", 0.7)])
def test_what_comes_back_has_length_one_and_the_direction(
    dtype: QuantizedDtype, least: float
) -> None:
    vectors = random_vectors()

    back = dequantize(quantize(vectors, dtype), dtype)

    assert back.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), 1, atol=1e-6)
    assert np.einsum("nd,nd->n", back, vectors).min() > least


def test_both_binary_forms_and_both_8_bit_forms_say_the_same() -> None:
    vectors = random_vectors()

    for one, other in (("binary", "ubinary"), ("int8", "uint8")):
        a, b = (dequantize(quantize(vectors, each), each) for each in (one, other))  # type: ignore[arg-type]
        assert (a == b).all()


def test_a_vector_of_zeros_comes_back_as_zeros() -> None:
    zeros = np.zeros((1, 8), np.float32)

    assert dequantize(quantize(zeros, "int8"), "int8").tolist() == zeros.tolist()
    assert dequantize(quantize(zeros, "uint8"), "uint8").tolist() == zeros.tolist()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_wire_carries_them_as_bytes_and_base64(dtype: QuantizedDtype) -> None:
    (vector, *_) = random_vectors()
    numbers = quantize(vector, dtype)

    data = encoding.to_bytes(vector, dtype, "native")

    assert np.frombuffer(data, dtype_of(dtype)).tolist() == numbers.tolist()
    assert encoding.itemsize(dtype) == 1
    assert base64.b64decode(encoding.to_base64(vector, dtype, "big")) == data
    for back in (
        encoding.from_bytes(data, dtype),
        encoding.from_base64(base64.b64encode(data).decode(), dtype),
    ):
        assert back.tolist() == dequantize(numbers, dtype).tolist()
