"""Answers read from bytes, as strictly as they must be written, and what is wrong with one."""

import json
import math
import re
from dataclasses import dataclass

import msgspec

from hexgrid import wire
from tests.server.running import KEY
from tests.server.test_leaks import LEAK

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5]\d\d) [ -~]*")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9a-z-]+): ((?:[!-~]+(?:[\t ]+[!-~]+)*)?)")
# OpenAI's form; ids of Cohere's begin in the same way.
_VECTORS = re.compile(rb'\{"id":"embd-[^"]*","object":"list"')
_EMBEDDINGS = msgspec.json.Decoder(wire.EmbeddingResponse)
# No fault of the client's is a 5xx; a 429 would mean that the server was too busy to be tested.
EXPECTED = {200, 307, 400, 401, 403, 404, 405, 408, 413, 414, 431}


class MalformedError(Exception):
    """What the server sent is no answer."""


@dataclass(frozen=True)
class Answer:
    """One answer; the names of headers are in small letters."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def ends(self) -> bool:
        """Whether the server says that it closes the connection."""
        return self.headers.get(b"connection") == b"close"


def take(buffer: bytearray, *, has_body: bool = True) -> Answer | None:
    """The first answer in `buffer`, which it is taken out of; None while it is not all there.

    Raises:
        MalformedError: it does not begin with an answer.
    """
    while (end := buffer.find(b"\r\n\r\n")) >= 0:
        status, headers = _head(bytes(buffer[:end]))
        start = end + 4
        if 100 <= status < 200:
            del buffer[:start]
            continue
        length = int(headers.get(b"content-length", b"0")) if has_body else 0
        if len(buffer) < start + length:
            return None
        answer = Answer(status, headers, bytes(buffer[start : start + length]))
        del buffer[: start + length]
        return answer
    return None


def _head(head: bytes) -> tuple[int, dict[bytes, bytes]]:
    line, *lines = head.split(b"\r\n")
    status = _STATUS_LINE.fullmatch(line)
    if status is None:
        raise MalformedError(f"a status line of {line[:100]!r}")
    headers: dict[bytes, bytes] = {}
    for each in lines:
        header = _HEADER.fullmatch(each)
        if header is None:
            raise MalformedError(f"a header of {each[:100]!r}")
        name, value = header.groups()
        if name in headers:
            raise MalformedError(f"two headers {name!r}")
        headers[name] = value
    return int(status[1]), headers


def fault_of(answer: Answer, sent: bytes) -> str | None:
    """What is wrong with the answer to `sent`; None: nothing."""
    if answer.status not in EXPECTED:
        return f"status {answer.status}"
    if answer.status == 307:  # a slash too many; it names no other host
        location = answer.headers.get(b"location", b"")
        return None if re.match(rb"/[^/]", location) else f"a redirect to {location!r}"
    if answer.status == 200:
        return _fault_of_good(answer)
    return _fault_of_error(answer, sent)


def _fault_of_good(answer: Answer) -> str | None:
    if _VECTORS.match(answer.body) is None:
        return None
    try:
        for item in _EMBEDDINGS.decode(answer.body).data:
            if isinstance(item.embedding, list) and not math.isfinite(sum(item.embedding)):
                return "a vector that is not finite"
    except msgspec.DecodeError as error:
        return f"an answer that is not of its form: {error}"
    return None


def _fault_of_error(answer: Answer, sent: bytes) -> str | None:
    """All errors are of one shape, and tell of nothing but the request."""
    if not answer.body:  # to HEAD
        return None if b"HEAD" in sent else "an error without a body"
    if not _is_of_the_one_shape(answer):
        return f"an error of another shape: {answer.headers} {answer.body[:200]!r}"
    told = answer.body.decode() + repr(answer.headers)
    if KEY in told and sent.count(KEY.encode()) == sent.count(
        b"authorization: Bearer " + KEY.encode()
    ):
        return "an error that tells the key"
    leak = LEAK.search(told)
    if leak is not None and leak[0].encode() not in sent:
        return f"an error that tells {leak[0]!r}"
    return None


def _is_of_the_one_shape(answer: Answer) -> bool:
    try:
        detail = json.loads(answer.body)["error"]
        fields = list(detail)
    except (ValueError, LookupError, TypeError):
        return False
    return (
        answer.headers.get(b"content-type") == b"application/json"
        and fields == ["message", "type", "param", "code"]
        and detail["code"] == answer.status
    )
