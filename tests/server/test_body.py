"""Bodies not of the documented form: each is a 400 that names the field and what was found."""

import gzip
import json
from collections.abc import Iterator

import httpx2
import pytest

from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from tests.server.running import (
    connect,
    embed,
    error,
    metric,
    post_bytes,
    serving,
    variant,
    vectors,
    wait_for_metric,
)

DEEP = b"[" * 100_000 + b"]" * 100_000
# Body, the param that is named, and what the message says: the word that pydantic has for it, what was found.
BAD_BODIES: list[tuple[bytes, str, list[str]]] = [
    (b"", "body", ["missing"]),
    (b"null", "body", ["model_attributes_type", "got null"]),
    (b"[]", "body", ["model_attributes_type", "a list of 0 items"]),
    (b'"x"', "body", ["model_attributes_type", "'x'"]),
    (b"{}", "body.input", ["missing"]),
    (b'{"input":null}', "body.input", ["missing"]),
    (b'{"model":"tiny"}', "body.input", ["missing"]),
    (b'{"input":5}', "body.input", ["string_type", "got 5"]),
    (b'{"input":5.5}', "body.input", ["string_type", "got 5.5"]),
    (b'{"input":true}', "body.input", ["string_type", "got true"]),
    (b'{"input":{"a":1}}', "body.input", ["string_type", "an object of 1 fields"]),
    (b'{"input":[null]}', "body.input.0", ["got null"]),
    (b'{"input":["a",1]}', "body.input.1", ["item 1 is not of the kind of item 0"]),
    (b'{"input":["a",[1]]}', "body.input.1", ["item 1 is not of the kind of item 0"]),
    (b'{"input":[1,[2]]}', "body.input.1", ["item 1 is not of the kind of item 0"]),
    (b'{"input":[1.5,2.5]}', "body.input.0", ["int_from_float", "got 1.5"]),
    (b'{"input":[1.0,2.0]}', "body.input.0", ["int_from_float", "got 1.0"]),
    (b'{"input":[1,"2"]}', "body.input.1", ["item 1 is not of the kind of item 0"]),
    (b'{"input":[true,false]}', "body.input.0", ["got true"]),
    (b'{"input":[[1,"2"]]}', "body.input.0.1", ["int_type", "'2'"]),
    (b'{"input":[[[1]]]}', "body.input.0.0", ["int_type", "a list of 1 items"]),
    (b'{"input":[{"type":"text","text":"a"}]}', "body.input.0.role", ["missing"]),
    (b'{"messages":[{"content":"a"}]}', "body.messages.0.role", ["missing"]),
    (b'{"messages":[[{"content":"a"}]]}', "body.messages.0.0.role", ["missing"]),
    (b'{"messages":[{"role":1}]}', "body.messages.0.role", ["string_type", "got 1"]),
    (b'{"messages":["a"]}', "body.messages.0", ["got the string 'a'"]),
    (b'{"messages":[]}', "body.messages", ["no message"]),
    (b'{"messages":[[]]}', "body.messages", ["no message"]),
    (b'{"messages":[{"role":"u"},[{"role":"u"}]]}', "body.messages", ["holds both"]),
    (b'{"input":[{"role":"u"},1]}', "body.input", ["messages and something else"]),
    (b'{"input":[[1,{"role":"u"}]]}', "body.input", ["messages and something else"]),
    (b'{"input":[[1],[2,{"role":"u"}]]}', "body.input", ["messages and something else"]),
    (b'{"input":[[1],[{"role":"u"},2]]}', "body.input", ["messages and something else"]),
    (b'{"input":[1,{"role":"u"}]}', "body.input.1", ["not of the kind of item 0"]),
    (b'{"input":[1' + b"0" * 5000 + b"]}", "body.input.0", ["out_of_range"]),
    (b'{"input":"a","dimensions":1e999}', "body.dimensions", ["out_of_range"]),
    (b'{"input":"a","dimensions":"32"}', "body.dimensions", ["int_type", "'32'"]),
    (b'{"input":"a","dimensions":true}', "body.dimensions", ["int_type", "got true"]),
    (b'{"input":"a","dimensions":32.0}', "body.dimensions", ["int_from_float", "got 32.0"]),
    (b'{"input":"a","dimensions":32.5}', "body.dimensions", ["int_from_float", "got 32.5"]),
    (b'{"input":"a","dimensions":NaN}', "body.26", ["json_invalid"]),
    (b'{"input":"a","truncate_prompt_tokens":"8"}', "body.truncate_prompt_tokens", ["int_type"]),
    (b'{"input":"a","truncation_side":"up"}', "body.truncation_side", ["literal_error", "'up'"]),
    (b'{"input":"a","encoding_format":"hex"}', "body.encoding_format", ["literal_error", "'hex'"]),
    (b'{"input":"a","encoding_format":5}', "body.encoding_format", ["string_type", "got 5"]),
    (b'{"input":"a","embed_dtype":"int4"}', "body.embed_dtype", ["literal_error", "'int4'"]),
    (b'{"input":"a","endianness":"middle"}', "body.endianness", ["literal_error", "'middle'"]),
    (b'{"input":"a","padding":"left"}', "body.padding", ["literal_error", "'left'"]),
    (b'{"input":"a","input_type":"passage"}', "body.input_type", ["literal_error", "'passage'"]),
    (b'{"input":"a","use_activation":1}', "body.use_activation", ["bool_type", "got 1"]),
    (b'{"input":"a","add_special_tokens":"no"}', "body.add_special_tokens", ["bool_type", "'no'"]),
    (b'{"input":"a","user":5}', "body.user", ["string_type", "got 5"]),
    (b'{"input":"a","request_id":5}', "body.request_id", ["string_type", "got 5"]),
    (b'{"input":"a","cache_salt":5}', "body.cache_salt", ["string_type", "got 5"]),
    (b'{"input":"a","priority":0.5}', "body.priority", ["int_from_float", "got 0.5"]),
    (b'{"input":"a","model":["tiny"]}', "body.model", ["string_type", "a list of 1 items"]),
    (b'{"input":"a","mm_processor_kwargs":5}', "body.mm_processor_kwargs", ["dict_type", "got 5"]),
    (b'{"input":"a"', "body", ["json_invalid"]),
    (b'{"input":"a"}}', "body.14", ["json_invalid"]),
    (b"{'input':'a'}", "body.1", ["json_invalid"]),
    (b'{"input":"a\x01b"}', "body.11", ["json_invalid"]),
    (b'\xef\xbb\xbf{"input":"a"}', "body.0", ["json_invalid"]),
    ('{"input":"a"}'.encode("utf-16-le"), "body.1", ["json_invalid"]),
    (b'{"input":"caf\xe9"}', "body", ["not valid UTF-8 at byte 13"]),
    (b'{"input":"a","foo":"\xff"}', "body", ["not valid UTF-8 at byte 20"]),
    (b'{"input":"\xed\xa0\x80"}', "body", ["not valid UTF-8 at byte 10"]),
    (b'{"input":"\\ud800"}', "body.input", ["lone surrogate"]),
    (b'{"input":["ok","\\udc00 low"]}', "body.input.1", ["lone surrogate"]),
    (b'{"input":"ok","\\udc00":{}}', "body", ["lone surrogate"]),
    (b'{"input":"a","foo":' + DEEP + b"}", "body", ["100001 levels deep; at most 64"]),
    (b'{"input":"a","messages":' + DEEP + b"}", "body", ["100001 levels deep; at most 64"]),
    (b'{"input":' + DEEP + b"}", "body", ["100001 levels deep; at most 64"]),
    (b'{"input":' + b"[" * 64 + b"]" * 64 + b"}", "body", ["65 levels deep; at most 64"]),
    (b'{"input":' + b"[" * 63 + b"]" * 63 + b"}", "body.input.0.0", ["int_type", "a list of"]),
    (b'{"input":["' + b"a" * 2**20 + b'",5.5]}', "body.input.1", ["got float"]),
    (gzip.compress(b'{"input":"a"}', mtime=0), "body", ["not valid UTF-8"]),
]
# Content types that are not JSON's.
NOT_JSON = [
    "",
    "text/plain",
    "application/x-www-form-urlencoded",
    "application/vnd.api+json",
    "application/json ;charset=utf-8",
    "application/jsonx",
]


@pytest.mark.parametrize(
    ("body", "param", "words"), BAD_BODIES, ids=[repr(body[:50]) for body, _, _ in BAD_BODIES]
)
def test_a_bad_body_is_refused_by_field_and_content(
    client: httpx2.Client, body: bytes, param: str, words: list[str]
) -> None:
    detail = error(post_bytes(client, body))

    assert (detail["code"], detail["type"], detail["param"]) == (400, "Bad Request", param)
    assert [word for word in words if word not in detail["message"]] == []


def test_what_was_found_is_shown_no_longer_than_it_helps(client: httpx2.Client) -> None:
    detail = error(embed(client, "a", encoding_format="x" * 10_000))

    assert "x" * 200 in detail["message"]
    assert len(detail["message"]) < 400


def test_the_choices_of_a_field_are_named(client: httpx2.Client) -> None:
    message = error(embed(client, "a", encoding_format="hex"))["message"]

    assert "'float', 'base64', 'bytes', 'bytes_only'" in message


def test_of_a_key_given_twice_the_last_one_counts(client: httpx2.Client) -> None:
    response = post_bytes(client, b'{"input":"a","input":"b"}')

    assert vectors(response).tolist() == vectors(embed(client, "b")).tolist()


@pytest.mark.parametrize("escaped", [rb"\ud83d\ude80", rb"\u0000", "\N{ROCKET}".encode()], ids=repr)
def test_every_unicode_text_is_taken(client: httpx2.Client, escaped: bytes) -> None:
    response = post_bytes(client, b'{"input":"' + escaped + b'"}')

    assert (
        vectors(response).tolist() == vectors(embed(client, json.loads(b'"%s"' % escaped))).tolist()
    )


@pytest.mark.parametrize("content_type", NOT_JSON)
def test_a_body_that_is_not_called_json_is_refused(
    client: httpx2.Client, content_type: str
) -> None:
    detail = error(post_bytes(client, b'{"input":"a"}', content_type=content_type))

    assert (detail["code"], detail["type"], detail["param"]) == (400, "Bad Request", None)
    assert "Unsupported Media Type: Only 'application/json' is allowed" in detail["message"]


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_may_be_spelled_differently(client: httpx2.Client, content_type: str) -> None:
    vectors(post_bytes(client, b'{"input":"a"}', content_type=content_type))


@pytest.mark.parametrize(("model", "limit"), [("tiny", 32_768), ("short", 32)])
def test_a_text_of_30_megabytes_is_refused_by_the_models_limit(
    client: httpx2.Client, model: str, limit: int
) -> None:
    detail = error(
        post_bytes(client, b'{"model":"%s","input":"%s"}' % (model.encode(), b"a " * 15_000_000))
    )

    assert detail["code"] == 400
    assert f"maximum context length is {limit} tokens" in detail["message"]
    assert "30000000 characters" in detail["message"]


@pytest.fixture(scope="module")
def narrow(tiny_model: ServedModel) -> Iterator[httpx2.Client]:
    """A server that takes bodies of 1,000 bytes."""
    metrics = Metrics()
    with serving([variant(tiny_model, metrics, "tiny")], metrics, max_body_bytes=1000) as client:
        yield client


def body_of(size: int) -> bytes:
    """A good body of that many bytes."""
    return b'{"input":"%s"}' % (b"a" * (size - len(b'{"input":""}')))


def in_chunks(body: bytes) -> Iterator[bytes]:
    """What makes httpx send the body without a Content-Length."""
    yield body[:500]
    yield body[500:]


def test_a_body_of_the_limit_is_taken(narrow: httpx2.Client) -> None:
    vectors(post_bytes(narrow, body_of(1000)))


def test_a_larger_body_is_refused_by_its_limit(narrow: httpx2.Client) -> None:
    detail = error(post_bytes(narrow, body_of(1001)))

    assert (detail["code"], detail["type"]) == (413, "RequestEntityTooLargeError")
    assert "1001 bytes" in detail["message"]
    assert "at most 1000" in detail["message"]


@pytest.mark.parametrize(("size", "status"), [(1000, 200), (1001, 413)])
def test_a_body_without_a_length_is_counted_as_it_comes(
    narrow: httpx2.Client, size: int, status: int
) -> None:
    response = narrow.post(
        "/v1/embeddings",
        content=in_chunks(body_of(size)),
        headers={"content-type": "application/json"},
    )

    assert "content-length" not in response.request.headers
    assert response.status_code == status


@pytest.mark.parametrize("path", ["/v1/embeddings", "/tokenize", "/detokenize"])
def test_a_body_declared_too_large_is_refused_before_it_comes(
    narrow: httpx2.Client, path: str
) -> None:
    connection = connect(narrow)
    connection.putrequest("POST", path)
    connection.putheader("content-type", "application/json")
    connection.putheader("content-length", str(10**12))
    connection.endheaders()

    assert connection.getresponse().status == 413
    connection.close()


def test_a_body_without_an_end_is_refused_where_it_passes_the_limit(narrow: httpx2.Client) -> None:
    connection = connect(narrow)
    connection.putrequest("POST", "/v1/embeddings")
    connection.putheader("content-type", "application/json")
    connection.putheader("transfer-encoding", "chunked")
    connection.endheaders()
    connection.send(b"3e9\r\n" + body_of(1001) + b"\r\n")

    assert connection.getresponse().status == 413
    connection.close()


def test_a_client_that_leaves_while_it_sends_is_no_error(
    tiny_model: ServedModel, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    with serving([variant(tiny_model, metrics, "tiny")], metrics) as client:
        connection = connect(client)
        connection.putrequest("POST", "/v1/embeddings")
        connection.putheader("content-type", "application/json")
        connection.putheader("content-length", "100")
        connection.endheaders(b'{"input":')
        connection.close()

        wait_for_metric(client, "http_requests_total", 1, path="/v1/embeddings", status="499")
        assert metric(client, "http_requests_total", path="/v1/embeddings") == 1
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
