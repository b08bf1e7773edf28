"""What is sent to the server: case number `index` of a seed, the same whenever it is asked for.

The first are all that is known to be hostile, as it is; the others are requests that were spoilt at random.
"""

import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

from tests.fuzz import hostile, values
from tests.fuzz.requests import Request, in_pieces

# How the client ends its connection: after the answer; at once; at once on its own side, then reading.
End = Literal["wait", "leave", "half-close"]

_MOST_BYTES = 2_000_000  # of a case that is made by mutation
FIRST_SPOILT = 10_000  # more than all known ones
_SEED_BYTES = 20_000  # of a known case that is spoilt further


@dataclass(frozen=True)
class Case:
    """Bytes for one connection, in the pieces in which they are sent."""

    index: int
    kind: str
    pieces: list[bytes]
    end: End

    @cached_property
    def sent(self) -> bytes:
        return b"".join(self.pieces)


@cache
def light() -> list[bytes]:
    """The hostile cases that are sent first, as they are."""
    return list(hostile.light())


@cache
def heavy() -> list[bytes]:
    """Those that come next."""
    return list(hostile.heavy())


@cache
def _spoilable() -> list[bytes]:
    return [case for case in light() if len(case) <= _SEED_BYTES]


def make_case(seed: int, index: int) -> Case:
    """Case `index` of `seed`."""
    chance = random.Random(f"{seed}:{index}")
    if index < len(light()):
        return Case(index, "known", [light()[index]], "wait")
    if index < FIRST_SPOILT:
        later = index - len(light())
        return Case(index, "known", heavy()[later : later + 1] or [b"\r\n"], "wait")
    kind, make = chance.choice(list(_KINDS.items()))
    data = make(chance)[:_MOST_BYTES]
    weights = (50, 30, 20) if kind == "cut" else (90, 6, 4)
    end: End = chance.choices(("wait", "leave", "half-close"), weights)[0]
    num_cuts = chance.choice([0, 0, 0, 1, 2, 7])
    return Case(index, kind, in_pieces(data, num_cuts, chance), end)


def _json(chance: random.Random) -> bytes:
    """A body of any values in the fields of its route."""
    path, struct = chance.choice(list(hostile.BODIES.items()))
    body = values.any_body(struct, chance)
    request = Request(b"POST", path, list(hostile.JSON), body)
    request.framing = chance.choice(["length", "length", "chunked"])
    return request.to_bytes(chance)


def _json_text(chance: random.Random) -> bytes:
    """A body that was JSON before its bytes were changed; its length is told as it is."""
    path, struct = chance.choice(list(hostile.BODIES.items()))
    body = _spoilt(values.any_body(struct, chance), chance)
    return Request(b"POST", path, list(hostile.JSON), body).to_bytes(chance)


def _headers(chance: random.Random) -> bytes:
    """Strange headers beside, in place of and before the right ones."""
    request = _good(chance)
    for header in chance.choices(values.HEADERS, k=chance.randint(1, 4)):
        request.headers.insert(chance.randint(0, len(request.headers)), header)
    if chance.random() < 0.1:
        request.headers += [
            (b"h%d" % number, b"x") for number in range(chance.choice([50, 100, 2000]))
        ]
    if chance.random() < 0.3:
        del request.headers[chance.randrange(len(request.headers))]
    request.framing = chance.choice(["length", "chunked", None])
    request.trailers = chance.choices(values.HEADERS, k=chance.choice([0, 0, 2]))
    return request.to_bytes(chance)


def _line(chance: random.Random) -> bytes:
    """Another first line."""
    request = _good(chance)
    if chance.random() < 0.6:
        request.target = chance.choice(values.TARGETS)
    if chance.random() < 0.4:
        request.method = chance.choice(values.METHODS)
    if chance.random() < 0.3:
        request.version = chance.choice(values.VERSIONS)
    return request.to_bytes(chance)


def _cut(chance: random.Random) -> bytes:
    """A request that ends too early."""
    data = _good(chance).to_bytes(chance)
    return data[: chance.randrange(len(data))]


def _bytes(chance: random.Random) -> bytes:
    """A good request with its bytes changed anywhere."""
    return _spoilt(_good(chance).to_bytes(chance), chance)


def _known(chance: random.Random) -> bytes:
    """A hostile request with its bytes changed anywhere."""
    return _spoilt(chance.choice(_spoilable()), chance)


def _pipelined(chance: random.Random) -> bytes:
    """Several requests at once, of which some are spoilt."""
    parts = [_good(chance).to_bytes(chance) for _ in range(chance.randint(2, 12))]
    spoilt = chance.randrange(len(parts))
    parts[spoilt] = _spoilt(parts[spoilt], chance)
    return b"".join(parts)


def _noise(chance: random.Random) -> bytes:
    """No HTTP at all."""
    parts = chance.choices([*values.TOKENS, chance.randbytes(20)], k=chance.randint(1, 200))
    return b"".join(parts)


_KINDS: dict[str, Callable[[random.Random], bytes]] = {
    "json": _json,
    "json text": _json_text,
    "headers": _headers,
    "first line": _line,
    "cut": _cut,
    "bytes": _bytes,
    "known, spoilt": _known,
    "pipelined": _pipelined,
    "noise": _noise,
}


def _good(chance: random.Random) -> Request:
    return deepcopy(chance.choice(hostile.GOOD))


def _spoilt(data: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.choice([1, 1, 2, 3, 8])):
        at = chance.randint(0, len(data))
        until = min(len(data), at + chance.choice([1, 2, 8, 100]))
        match chance.randrange(6):
            case 0:
                data = data[:at] + chance.randbytes(until - at) + data[until:]
            case 1 | 2:
                data = data[:at] + chance.choice(values.TOKENS) + data[at:]
            case 3:
                data = data[:at] + data[until:]
            case 4:
                data = data[:at] + data[at:until] * chance.choice([2, 3, 1000]) + data[until:]
            case 5:
                data = data[:at] + data[at:].swapcase()
    return data or b"\r\n"
