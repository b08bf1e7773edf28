"""What is known to be hostile: each case that a test of its own refuses, as a request on the wire."""

import gzip
import json
import random
from collections.abc import Iterator

from hexgrid.server.openapi import structs_of
from hexgrid.server.operations import OPERATIONS
from tests.fuzz.requests import Header, Request, post
from tests.server.raw_http import TOO_MUCH
from tests.server.running import KEY, TEXT
from tests.server.test_auth import NOT_THE_KEY
from tests.server.test_body import BAD_BODIES, NOT_JSON
from tests.server.test_embedding_call import REFUSED

AUTHORIZATION: Header = (b"authorization", b"Bearer " + KEY.encode())
JSON = (AUTHORIZATION, (b"content-type", b"application/json"))
EMBEDDINGS = b"/v1/embeddings"
ROUTES = [(op.method.upper().encode(), op.path.encode()) for op in OPERATIONS]
# The struct of its body, by path; the first where there are several.
BODIES = {
    op.path.encode(): structs_of(op.request)[0] for op in OPERATIONS if op.request is not None
}
GOOD = [
    post(EMBEDDINGS, b'{"input":"Gravity pulls."}', AUTHORIZATION),
    post(EMBEDDINGS, b'{"input":["a","b"],"dimensions":32,"encoding_format":"base64"}', AUTHORIZATION),
    post(EMBEDDINGS, b'{"input":[[1,2],[3]],"encoding_format":"bytes"}', AUTHORIZATION),
    post(EMBEDDINGS, b'{"input":"a","encoding_format":"bytes_only","embed_dtype":"fp8_e4m3"}', AUTHORIZATION),
    post(b"/tokenize", b'{"prompt":"a b c","return_token_strs":true}', AUTHORIZATION),
    post(b"/detokenize", b'{"tokens":[1,2,3]}', AUTHORIZATION),
    *(Request(method, path, [AUTHORIZATION]) for method, path in ROUTES if path not in BODIES),
]  # fmt: skip
_LONGEST = 32_768  # tokens of an input
_LARGE = b"a " * 15_000_000
_MANY_BYTES = 65 * 2**20


def light() -> Iterator[bytes]:
    """Each of them that is refused in milliseconds."""
    for path in BODIES:
        for body, *_ in BAD_BODIES:
            yield _bytes(post(path, body, AUTHORIZATION))
        for content_type in NOT_JSON:
            yield _bytes(_called(path, content_type.encode()))
        zipped = gzip.compress(b"{}", mtime=0)
        yield _bytes(post(path, zipped, AUTHORIZATION, (b"content-encoding", b"gzip")))
        yield _head(path, b"content-length: %d" % 10**12)
    for fields, *_ in REFUSED:
        yield _bytes(post(EMBEDDINGS, json.dumps({"input": TEXT} | fields).encode(), AUTHORIZATION))
    for method, path in ROUTES:
        for authorization in NOT_THE_KEY:
            headers = [] if authorization is None else [(b"authorization", authorization.encode())]
            yield _bytes(Request(method, path, headers))
        for other in (b"HEAD", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"CONNECT"):
            yield _bytes(Request(other, path, [AUTHORIZATION]))


def heavy() -> Iterator[bytes]:
    """Those of many bytes or tokens, of which some are answered."""
    yield from (case for case, *_ in TOO_MUCH.values())
    for path in BODIES:
        text = b'{"input":"%s","prompt":"%s"}' % (_LARGE, _LARGE[:1000])
        yield _bytes(post(path, text, AUTHORIZATION))
        yield _bytes(Request(b"POST", path, list(JSON), b" " * _MANY_BYTES, framing="chunked"))
    for num_tokens in (_LONGEST, _LONGEST + 1):
        body = json.dumps({"input": [1] * num_tokens, "encoding_format": "base64"}).encode()
        yield _bytes(post(EMBEDDINGS, body, AUTHORIZATION))


def _called(path: bytes, content_type: bytes) -> Request:
    return Request(
        b"POST", path, [AUTHORIZATION, (b"content-type", content_type)], b'{"input":"a"}'
    )


def _head(path: bytes, header: bytes) -> bytes:
    """A request whose body does not come."""
    start = _bytes(Request(b"POST", path, list(JSON), framing=None))
    return start.removesuffix(b"\r\n") + header + b"\r\n\r\n"


def _bytes(request: Request) -> bytes:
    return request.to_bytes(random.Random(0))
