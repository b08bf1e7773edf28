"""The forms of an answer: JSON numbers, base64, raw bytes with and without their header."""

import base64
import json
from itertools import pairwise
from typing import get_args

import httpx2
import numpy as np
import pytest

from hexgrid.encoding import Vectors, from_bytes, itemsize
from hexgrid.quantized import quantize
from hexgrid.wire import EmbedDtype, Endianness, QuantizedDtype
from tests.server.running import embed, error, num_tokens, vectors

TEXTS = ["The capital of China is Beijing.", "Explain gravity", "a" * 100]
DTYPES: tuple[EmbedDtype, ...] = get_args(EmbedDtype)
ENDIANNESSES: tuple[Endianness, ...] = get_args(Endianness)
# Half a unit in the last place, relative and, for numbers below the normal ones, absolute.
ROUNDING: dict[EmbedDtype, tuple[float, float]] = {
    "float32": (0, 0),
    "float16": (2**-11, 2**-25),
    "bfloat16": (2**-8, 0),
    "fp8_e4m3": (2**-4, 2**-10),
    "fp8_e5m2": (2**-3, 2**-17),
}


def assert_rounded(found: Vectors, exact: Vectors, dtype: EmbedDtype) -> None:
    """`found` is `exact` to the precision of `dtype`."""
    relative, absolute = ROUNDING[dtype]
    np.testing.assert_allclose(found, exact, rtol=relative, atol=absolute)


def test_the_answer_has_vllms_keys_in_vllms_order(client: httpx2.Client) -> None:
    body = embed(client, "Hello").json()

    assert list(body) == ["id", "object", "created", "model", "data", "usage"]
    assert list(body["data"][0]) == ["index", "object", "embedding"]
    assert (body["object"], body["data"][0]["object"]) == ("list", "embedding")
    assert isinstance(body["created"], int)
    assert list(body["usage"].items()) == [
        ("prompt_tokens", 2),
        ("total_tokens", 2),
        ("completion_tokens", 0),
        ("prompt_tokens_details", None),
        ("completion_tokens_details", None),
    ]


def test_the_answer_is_compact_json_of_shortest_float32(client: httpx2.Client) -> None:
    response = embed(client, "Hello")

    assert response.headers["content-type"] == "application/json"
    assert b" " not in response.content
    numbers = response.json()["data"][0]["embedding"]
    assert [repr(number) for number in numbers] == [str(np.float32(number)) for number in numbers]


@pytest.mark.parametrize("encoding_format", ["float", None])
def test_numbers_are_the_default(client: httpx2.Client, encoding_format: str | None) -> None:
    response = embed(client, TEXTS, encoding_format=encoding_format)

    assert vectors(response).tolist() == vectors(embed(client, TEXTS)).tolist()


def test_base64_holds_the_same_bits_as_the_numbers(client: httpx2.Client) -> None:
    data = embed(client, TEXTS, encoding_format="base64").json()["data"]

    decoded = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4").tolist() for item in data]

    assert decoded == vectors(embed(client, TEXTS)).tolist()


@pytest.mark.parametrize("endianness", ENDIANNESSES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_base64_comes_in_every_dtype_and_byte_order(
    client: httpx2.Client, dtype: EmbedDtype, endianness: Endianness
) -> None:
    response = embed(
        client, TEXTS, encoding_format="base64", embed_dtype=dtype, endianness=endianness
    )

    decoded = np.array(
        [
            from_bytes(base64.b64decode(item["embedding"]), dtype, endianness)
            for item in response.json()["data"]
        ]
    )

    assert_rounded(decoded, vectors(embed(client, TEXTS)), dtype)


@pytest.mark.parametrize("encoding_format", ["bytes", "bytes_only"])
@pytest.mark.parametrize("endianness", ENDIANNESSES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_bytes_are_the_vectors_one_after_another(
    client: httpx2.Client, encoding_format: str, dtype: EmbedDtype, endianness: Endianness
) -> None:
    response = embed(
        client, TEXTS, encoding_format=encoding_format, embed_dtype=dtype, endianness=endianness
    )

    decoded = from_bytes(response.content, dtype, endianness).reshape(3, 64)

    assert response.headers["content-type"] == "application/octet-stream"
    assert_rounded(decoded, vectors(embed(client, TEXTS)), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_header_says_where_each_vector_lies(client: httpx2.Client, dtype: EmbedDtype) -> None:
    response = embed(
        client,
        TEXTS,
        encoding_format="bytes",
        embed_dtype=dtype,
        endianness="big",
        dimensions=10,
        request_id="müde\n",
    )
    metadata = json.loads(response.headers["metadata"])

    bounds = [(item["start"], item["end"]) for item in metadata["data"]]
    assert list(metadata) == ["id", "created", "model", "data", "usage"]
    assert metadata["id"] == "embd-müde\n"
    assert metadata["model"] == "tiny"
    assert bounds[0][0] == 0
    assert all(end == start for (_, end), (start, _) in pairwise(bounds))
    assert bounds[-1][1] == len(response.content) == 3 * 10 * itemsize(dtype)
    assert [item["index"] for item in metadata["data"]] == [0, 1, 2]
    assert all(item["embed_dtype"] == dtype for item in metadata["data"])
    assert all(item["endianness"] == "big" for item in metadata["data"])
    assert all(item["shape"] == [10] for item in metadata["data"])
    count = num_tokens(embed(client, TEXTS))
    assert metadata["usage"] == {"prompt_tokens": count, "total_tokens": count}


def test_bytes_only_has_no_such_header(client: httpx2.Client) -> None:
    assert "metadata" not in embed(client, TEXTS, encoding_format="bytes_only").headers


@pytest.mark.parametrize("encoding_format", ["base64", "bytes", "bytes_only"])
def test_the_truncation_header_stands_beside_every_form(
    client: httpx2.Client, encoding_format: str
) -> None:
    response = embed(client, TEXTS, encoding_format=encoding_format, truncate_prompt_tokens=1)

    assert response.headers["x-hexgrid-truncated"] == "3"


@pytest.mark.parametrize("encoding_format", ["float", "base64", "bytes", "bytes_only"])
def test_every_encoding_tells_the_tokens_in_a_header(
    client: httpx2.Client, encoding_format: str
) -> None:
    response = embed(client, TEXTS, encoding_format=encoding_format)

    assert int(response.headers["x-hexgrid-prompt-tokens"]) == num_tokens(embed(client, TEXTS))


@pytest.mark.parametrize("dtype", get_args(QuantizedDtype))
@pytest.mark.parametrize("encoding_format", [None, "float", "base64", "bytes", "bytes_only"])
def test_integers_come_in_every_encoding(
    client: httpx2.Client, dtype: QuantizedDtype, encoding_format: str | None
) -> None:
    response = embed(
        client, TEXTS, embed_dtype=dtype, encoding_format=encoding_format, endianness="big"
    )

    expected = quantize(vectors(embed(client, TEXTS)), dtype)
    if encoding_format in ("bytes", "bytes_only"):
        assert response.content == expected.tobytes()
    else:
        found = [item["embedding"] for item in response.json()["data"]]
        texts = [base64.b64encode(row.tobytes()).decode() for row in expected]
        assert found == (texts if encoding_format == "base64" else expected.tolist())


def test_the_header_of_bytes_says_where_integers_lie(client: httpx2.Client) -> None:
    response = embed(client, TEXTS, embed_dtype="ubinary", encoding_format="bytes", dimensions=16)

    data = json.loads(response.headers["metadata"])["data"]
    assert [(item["embed_dtype"], item["shape"]) for item in data] == [("ubinary", [2])] * 3
    assert [(item["start"], item["end"]) for item in data] == [(0, 2), (2, 4), (4, 6)]


def test_integers_are_made_after_dimensions_are_cut(client: httpx2.Client) -> None:
    response = embed(client, TEXTS, embed_dtype="int8", dimensions=8)

    expected = quantize(vectors(embed(client, TEXTS, dimensions=8)), "int8")
    assert [item["embedding"] for item in response.json()["data"]] == expected.tolist()


def test_bits_are_those_of_the_raw_state_too(client: httpx2.Client) -> None:
    raw, unit = (
        embed(client, TEXTS, embed_dtype="binary", use_activation=use).json()["data"]
        for use in (False, True)
    )

    assert raw == unit


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"embed_dtype": "binary", "dimensions": 12}, "dimensions", "must be a multiple of 8"),
        ({"embed_dtype": "ubinary", "dimensions": 1}, "dimensions", "but got 1."),
        ({"embed_dtype": "int8", "use_activation": False}, "embed_dtype", "direction only"),
        ({"embed_dtype": "uint8", "use_activation": False}, "embed_dtype", "direction only"),
    ],
)
def test_what_integers_cannot_hold_is_refused(
    client: httpx2.Client, fields: dict[str, object], param: str, message: str
) -> None:
    detail = error(embed(client, TEXTS, **fields))

    assert (detail["code"], detail["param"]) == (400, param)
    assert message in detail["message"]
