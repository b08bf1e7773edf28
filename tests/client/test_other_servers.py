"""Servers that are not hexgrid's, or answer what they should not: what they are asked, what is made of it."""

import math
from typing import Any

import numpy as np
import pytest

from hexgrid.errors import (
    BodyTooLargeError,
    DeadlineError,
    ForbiddenError,
    HexgridError,
    ModelNotFoundError,
    RateLimitedError,
    RemoteError,
    RequestError,
    UnreachableError,
)
from tests.client.conftest import each_client
from tests.other_server import Answer, good, in_base64, items, other_server


@each_client
def test_any_server_of_openais_is_asked_in_base64_for_what_is_given_alone(new_client: Any) -> None:
    with other_server(good) as other, new_client(other.url, model="m", api_key="k-1") as client:
        for _ in range(2):
            assert client.embed(["a", "bcd"], user="u").tolist() == [[1, 1], [3, 1]]

    body = {"input": ["a", "bcd"], "user": "u", "model": "m", "encoding_format": "base64"}
    assert other.requests == [body, body]
    assert other.keys == {"Bearer k-1"}


@each_client
def test_a_hexgrid_is_asked_in_bytes_once_it_has_shown_itself(new_client: Any) -> None:
    def shown(request: dict[str, Any]) -> Answer:
        headers = {"x-hexgrid-prompt-tokens": "5"}
        if request["encoding_format"] == "base64":
            return 200, headers, good(request)[2]
        vectors = np.array([[len(text), 1] for text in request["input"]], dtype="<f4")
        headers["content-type"] = "application/octet-stream"
        return 200, headers, vectors.tobytes()

    with other_server(shown) as other, new_client(other.url) as client:
        found = [client.embed_with_usage(["a", "bcd"]) for _ in range(2)]

    assert [each.vectors.tolist() for each in found] == [[[1, 1], [3, 1]]] * 2
    assert found[1].num_tokens == 5
    assert other.requests[1] == {
        "input": ["a", "bcd"],
        "encoding_format": "bytes_only",
        "endianness": "little",
    }


@each_client
@pytest.mark.parametrize(
    "body",
    [
        {"data": [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [1, 0.5]}]},
        items(in_base64(1, 0.5).replace("/", "\\/"), in_base64(0, 2)),
        items(in_base64(1, 0.5), [0, 2]),
    ],
    ids=["numbers in another order", "base64", "both"],
)
def test_what_servers_send_is_read(new_client: Any, body: Any) -> None:
    with other_server(lambda _: (200, {}, body)) as other, new_client(other.url) as client:
        found = client.embed_with_usage(["a", "b"])

    assert found.vectors.tolist() == [[1, 0.5], [0, 2]]
    assert (found.num_tokens, found.num_truncated) == (0, 0)


@each_client
def test_base64_with_jsons_escapes_is_read(new_client: Any) -> None:
    text = in_base64(-0.4999998, 1).encode()
    assert b"/" in text
    body = b'{"data": [{"index": 0, "embedding": "%b"}]}' % text.replace(b"/", b"\\/")
    with other_server(lambda _: (200, {}, body)) as other, new_client(other.url) as client:
        assert client.embed("a").tolist() == [[np.float32(-0.4999998), 1]]


@each_client
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>welcome</html>", "no embeddings response"),
        (b"\xff", "no embeddings response"),
        ({"data": [{"embedding": [1.0]}]}, "missing required field `index`"),
        (items([1.0, 2.0]), "1 vectors to 2 inputs"),
        (items([1.0], [1.0], [1.0]), "3 vectors to 2 inputs"),
        (items([1.0], [1.0, 2.0]), "of 1 and of 2 dimensions"),
        (items([], []), "without a number"),
        (items("not base64!", "x"), "no embeddings response"),
        (items(in_base64(1, math.nan), in_base64(1, 2)), "NaN or infinity"),
        (items(in_base64(1, math.inf), in_base64(1, 2)), "NaN or infinity"),
    ],
)
def test_an_answer_that_is_none_is_told(new_client: Any, body: Any, message: str) -> None:
    with (
        other_server(lambda _: (200, {}, body)) as other,
        new_client(other.url) as client,
        pytest.raises(RemoteError, match=message) as caught,
    ):
        client.embed(["a", "b"])

    assert other.url in str(caught.value)


@each_client
@pytest.mark.parametrize(
    "content",
    [b"123", b"", np.array([math.nan, 1], "<f4").tobytes()],
    ids=["3 bytes", "none", "NaN"],
)
def test_bytes_that_are_no_vectors_are_told(new_client: Any, content: bytes) -> None:
    headers = {"content-type": "application/octet-stream"}
    with (
        other_server(lambda _: (200, headers, content)) as other,
        new_client(other.url) as client,
        pytest.raises(RemoteError),
    ):
        client.embed(["a", "b"])


@each_client
def test_vectors_of_another_width_midway_are_told(new_client: Any) -> None:
    def wider(request: dict[str, Any]) -> Answer:
        return 200, {}, items([1.0] * len(request["input"][0]))

    with (
        other_server(wider) as other,
        new_client(other.url, max_batch_inputs=1, concurrency=1) as client,
        pytest.raises(RemoteError, match="vectors of 2 dimensions, and others of 1"),
    ):
        client.embed(["a", "bc"])


@each_client
@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (400, {"error": {"message": "bad"}}, RequestError, "^bad$"),
        (400, {"error": {"message": "bad", "type": None}}, RequestError, "^bad$"),
        (413, {"error": "too large", "error_type": "Validation"}, BodyTooLargeError, "^too large"),
        (
            403,
            {"error": {"message": "not you", "type": "t", "code": 403}},
            ForbiddenError,
            "^not you$",
        ),
        (
            404,
            b"nothing here",
            ModelNotFoundError,
            "/v1 has no such model, or no /embeddings behind it: nothing",
        ),
        (422, {"detail": "odd"}, RequestError, "odd"),
        (429, b"", RateLimitedError, "empty answer"),
        (500, b"<html>oops</html>", RemoteError, "answered 500: <html>oops"),
        (502, b"bad gateway", UnreachableError, "answered 502: bad gateway"),
        (504, b"too late", DeadlineError, "answered 504"),
        (307, b"", RemoteError, "answered 307"),
        (418, b"x" * 10_000, RemoteError, "answered 418"),
    ],
)
def test_a_refusal_is_of_its_kind_and_in_the_servers_words(
    new_client: Any, status: int, body: Any, kind: type[HexgridError], message: str
) -> None:
    with (
        other_server(lambda _: (status, {}, body)) as other,
        new_client(other.url, max_retries=0) as client,
        pytest.raises(kind, match=message) as caught,
    ):
        client.embed(["a", "b"])

    assert len(str(caught.value)) < 1000


@each_client
def test_a_connection_that_breaks_off_is_made_again(new_client: Any) -> None:
    breaks = iter([True, True])

    def breaking(request: dict[str, Any]) -> Answer:
        if next(breaks, False):
            raise ConnectionAbortedError
        return good(request)

    with other_server(breaking) as other, new_client(other.url) as client:
        assert client.embed(["a"]).tolist() == [[1, 1]]

    assert len(other.requests) == 3


@each_client
def test_models_are_listed_as_far_as_the_server_tells(new_client: Any, url: str) -> None:
    with other_server(good, models=("m", "n")) as other, new_client(other.url) as client:
        assert [(m.id, m.owned_by, m.max_model_len) for m in client.models()] == [
            ("m", "acme", None),
            ("n", "acme", None),
        ]
    with new_client(url) as client:
        (model,) = client.models()
    assert (model.id, model.owned_by, model.embedding_dimension) == ("m", "hexgrid", 64)
    with (
        other_server(good, models=None) as other,
        new_client(other.url) as client,
        pytest.raises(ModelNotFoundError),
    ):
        client.models()
