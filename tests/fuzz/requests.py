"""A request as parts that can be spoilt one by one, and the bytes that they make."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

Header = tuple[bytes, bytes]
# None: the headers say what they say, and the body follows.
Framing = Literal["length", "chunked"] | None

_MOST_CHUNKS = 8


@dataclass
class Request:
    """One request; a mutation changes its parts."""

    method: bytes
    target: bytes
    headers: list[Header]
    body: bytes = b""
    version: bytes = b"HTTP/1.1"
    framing: Framing = "length"
    trailers: Sequence[Header] = field(default_factory=tuple)

    def to_bytes(self, chance: random.Random) -> bytes:
        """As it goes over the wire; `chance` says where chunks end."""
        headers, body = list(self.headers), self.body
        if self.framing == "length" and (body or self.method == b"POST"):
            headers.append((b"content-length", b"%d" % len(body)))
        elif self.framing == "chunked":
            headers.append((b"transfer-encoding", b"chunked"))
            body = in_chunks(body, chance) + _lines(self.trailers) + b"\r\n"
        line = b" ".join((self.method, self.target, self.version))
        return line + b"\r\n" + _lines(headers) + b"\r\n" + body


def post(path: bytes, body: bytes, *headers: Header) -> Request:
    """A request with JSON."""
    return Request(b"POST", path, [*headers, (b"content-type", b"application/json")], body)


def in_pieces(data: bytes, num_cuts: int, chance: random.Random) -> list[bytes]:
    """The same bytes, cut at random; no piece is empty."""
    cuts = sorted(chance.choices(range(1, len(data)), k=num_cuts)) if len(data) > 1 else []
    ends = [0, *cuts, len(data)]
    pieces = [data[start:end] for start, end in pairwise(ends)]
    return [piece for piece in pieces if piece]


def in_chunks(body: bytes, chance: random.Random) -> bytes:
    """`body` in the chunked encoding, up to its last chunk of no bytes."""
    pieces = in_pieces(body, chance.randrange(_MOST_CHUNKS), chance)
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n"


def _lines(headers: Sequence[Header]) -> bytes:
    return b"".join(b"%s: %s\r\n" % header for header in headers)
