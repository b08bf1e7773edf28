"""Values that are seldom what a program expects: in JSON, in headers, in a request's first line."""

import json
import random
from typing import Any

import msgspec

from tests.fuzz.requests import Header

TEXTS = [
    "",
    " ",
    "a",
    "Gravity is a force.",
    "\x00",
    "\x1b[2J\x07",
    "a\r\nX-Injected: 1\r\n\r\n",
    "\ufeff",
    "\u202e\u2066abc",
    "e" + "\u0301" * 300,
    "\N{ROCKET}" * 40,
    "\U000e0001\U0010ffff",
    "\ud800",
    "a\udc00b",
    "\u1e9e\u0130\u01c5",
    "<|endoftext|><|im_start|>",
    "%00%0a{{7*7}}${x}../../etc/passwd",
    "' OR 1=1; --",
    "x" * 5_000,
    "\u4e2d" * 500,
    "\t\n\v\f" * 50,
]
NUMBERS = [
    0, -0.0, -1, 1, 2, 31, 32, 64, 65, 1024, 32_768, 32_769, 151_643, 151_668, 151_669, 2**31, -(2**31),
    2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**400, 0.5, 1e308, -1e-320, float("nan"),
    float("inf"),
]  # fmt: skip
WORDS = [
    "float", "base64", "bytes", "bytes_only", "float16", "bfloat16", "fp8_e4m3", "fp8_e5m2", "big",
    "little",
    "native", "left", "right", "query", "document", "max_length", "do_not_pad", "hexgrid/nano", "nobody",
]  # fmt: skip
CONSTANTS = [None, True, False]
_MOST_ITEMS = 5
_MOST_LEVELS = 4
# What clients send: a field of each kind is often right, so that the rest of the way is met, too.
_FITTING: dict[str, list[Any]] = {
    "input": ["a", ["a", "b"], [1, 2, 3], [[1], [2, 3]], "Gravity is a force.", ["a"] * 20],
    "prompt": ["a", "Gravity is a force."],
    "tokens": [[1, 2, 3], [151_643], []],
    "model": ["hexgrid/nano", None],
    "encoding_format": ["float", "base64", "bytes", "bytes_only"],
    "embed_dtype": ["float32", "float16", "bfloat16", "fp8_e4m3", "fp8_e5m2"],
    "endianness": ["native", "big", "little"],
    "dimensions": [1, 32, 64, 128, 256],
    "truncate_prompt_tokens": [-1, 1, 2, 8],
    "truncation_side": ["left", "right"],
    "input_type": ["query", "document"],
    "prompt_name": ["query"],
}


def any_value(chance: random.Random, levels: int = _MOST_LEVELS) -> Any:
    """Some JSON value, nested at most so deep."""
    if not levels or chance.random() < 0.6:
        return chance.choice(chance.choices((TEXTS, NUMBERS, WORDS, CONSTANTS), (4, 4, 2, 2))[0])
    if chance.random() < 0.2:
        return [any_value(chance, 0)] * chance.choice([1, 20, 2049])
    count = chance.randrange(_MOST_ITEMS)
    if chance.random() < 0.6:
        return [any_value(chance, levels - 1) for _ in range(count)]
    names = [chance.choice([*_FITTING, *TEXTS]) for _ in range(count)]
    return {name: any_value(chance, levels - 1) for name in names}


def any_body(struct: type[msgspec.Struct], chance: random.Random) -> bytes:
    """JSON with some of the fields of `struct`, each perhaps of the right kind, and perhaps others."""
    found: dict[str, Any] = {}
    for each in msgspec.structs.fields(struct):
        is_needed = each.name in ("input", "prompt", "tokens")
        if chance.random() < (0.97 if is_needed else 0.15):
            fitting = _FITTING.get(each.name)
            fits = fitting is not None and chance.random() < 0.6
            found[each.name] = chance.choice(fitting or []) if fits else any_value(chance)
    if chance.random() < 0.1:
        found[chance.choice(TEXTS)] = any_value(chance)
    text = json.dumps(found, ensure_ascii=chance.random() < 0.5)
    if chance.random() < 0.02:
        levels = chance.choice([50, 64, 65, 500, 20_000])
        text = text[:-1] + ', "deep": ' + "[" * levels + "]" * levels + "}"
    # Half of a pair becomes bytes that are not UTF-8.
    return text.encode(errors="surrogatepass")


HEADERS: list[Header] = [
    *(
        (b"content-length", value)
        for value in (
            b"", b" ", b"-1", b"+5", b"0x10", b"1e3", b"5, 5", b"0", b"1", b"7 ", b"9" * 30, b"10\x0b",
            b"\xb2", b"4294967296", b"18446744073709551617", b"100000000000",
        )
    ),
    *(
        (b"transfer-encoding", value)
        for value in (
            b"chunked", b"Chunked", b"gzip, chunked", b"chunked, gzip", b"identity", b"xchunked",
            b"\x0bchunked", b"chunked, chunked", b"",
        )
    ),
    *((b"content-encoding", value) for value in (b"gzip", b"br", b"deflate, gzip", b"identity")),
    *(
        (b"content-type", value)
        for value in (
            b"", b"text/plain", b"application/json; charset=utf-16", b"application/json, text/html",
            b"multipart/form-data; boundary=x", b"application/JSON;" + b" " * 3000,
        )
    ),
    *(
        (b"connection", value)
        for value in (b"close", b"keep-alive", b"upgrade", b"close, keep-alive", b"content-length")
    ),
    *((b"expect", value) for value in (b"100-continue", b"200-ok", b"")),
    *((b"upgrade", value) for value in (b"websocket", b"h2c", b"TLS/1.0", b"")),
    (b"http2-settings", b"AAMAAABkAAQAAP__"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    *((b"host", value) for value in (b"", b"a b", b"evil.example", b"x" * 5000, b"[::1", b"\xff")),
    *(
        (b"x-request-id", value)
        for value in (b"", b"a b", b"\x1b[31m", b"x" * 300, b"\xff\xfe", b"../../x", b'a,b;c="d"')
    ),
    *((b"authorization", value) for value in (b"", b"Bearer", b"Basic eDp5", b"Bearer \xff",
    b"Bearer " + b"x" * 9000)),
    *(
        (b"traceparent", value)
        for value in (b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01", b"ff-x", b"\xff", b"-" * 500)
    ),
    (b"tracestate", b"a=" + b"b" * 600),
    *((b"origin", value) for value in (b"null", b"https://evil.example", b"\x00")),
    (b"access-control-request-method", b"POST"),
    *((b"x-forwarded-for", value) for value in (b"127.0.0.1", b"x" * 2000)),
    (b"x-forwarded-prefix", b"//evil.example"),
    (b"accept", b"application/octet-stream;q=nan"),
    (b"accept-encoding", b"gzip;q=99999999999"),
    (b"range", b"bytes=0-,-1,999-"),
    (b"te", b"trailers, deflate"),
    (b"cookie", b"a=b; " * 500),
    (b"", b"x"),
    (b"a b", b"x"),
    (b"content-length ", b"5"),
    (b"content_length", b"5"),
    (b" folded", b"x"),
    (b"x", b"a\r\n folded"),
    (b"x", b"a\nb: c"),
    (b"x", b"a\x00b"),
    (b"\xe4", b"\xf6"),
    (b"x" * 9000, b"x"),
    (b"x", b"y" * 70_000),
]  # fmt: skip
METHODS = [
    b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"CONNECT", b"PRI",
    b"get", b"",
    b"M-SEARCH", b"PROPFIND", b"QUERY", b"G\x00T", b"X" * 500,
]  # fmt: skip
TARGETS = [
    b"/", b"*", b"", b"//", b"/v1", b"/v1/", b"/V1/EMBEDDINGS", b"/v1/embeddings/", b"//v1/embeddings",
    b"/v1/../v1/embeddings", b"/health/../v1/models", b"/v1%2fembeddings", b"/v1/embeddings%00",
    b"/%2e%2e/etc/passwd",
    b"/v1/embeddings;x=y", b"/health?x", b"/health#x", b"/ready\\..\\v1", b"http://evil.example/v1/models",
    b"https://u:p@h:99999/metrics", b"x:443", b"/%", b"/%zz", b"/%ff%fe", b"/\xff\xfe",
    b"/\xe2\x82\xac", b"/a b",
    b"/v1/models?" + b"a=b&" * 1500, b"/" + b"a/" * 5000, b"/openapi.json?root_path=//evil",
    b"/..;/metrics",
]  # fmt: skip
VERSIONS = [
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"HTTP/0.9",
    b"HTTP/2.0",
    b"HTTP/9.9",
    b"http/1.1",
    b"HTTP/1.1 ",
    b"",
    b"SIP/2.0",
]
# Bytes that mean something to some parser.
TOKENS = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\x00", b"\xff", b"\x7f", b"\xc0\xaf", b"\xed\xa0\x80",
    b"\xef\xbb\xbf", b" ",
    b"\t", b":", b"{", b"}", b"[", b"]", b'"', b"\\", b",", b"\\ud800", b"\\u0000", b"1e999", b"-",
    b"NaN", b"null",
    b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"-1\r\n", b"5;x=y\r\n", b"GET /live HTTP/1.1\r\n\r\n",
    b"HTTP/1.1", b"%00",
    b"content-length: 0\r\n", b"transfer-encoding: chunked\r\n", b"\x16\x03\x01\x02\x00\x01",
    b"PRI * HTTP/2.0\r\n\r\nSM",
]  # fmt: skip
