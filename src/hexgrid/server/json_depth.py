"""How deeply a JSON text is nested, told from its brackets at the speed of memory: nothing is parsed.

The decoder itself would stop at some depth, but at one that depends on the interpreter.
"""

import numpy as np

_OPENING, _CLOSING, _QUOTE = b"[{", b"]}", b'"'
_OTHERS = bytes(set(range(256)) - set(_OPENING + _CLOSING + _QUOTE))
_CHUNK = 2**20
_STEP = np.zeros(256, np.int8)
_STEP[list(_OPENING)], _STEP[list(_CLOSING)] = 1, -1


def is_deeper(body: bytes, most: int) -> bool:
    """Whether there is more than `most` levels of lists and objects in `body`."""
    # Most bodies have not even so many brackets.
    return sum(map(body.count, (b"[", b"{"))) > most and depth(body) > most


def depth(body: bytes) -> int:
    """Levels of lists and objects, in fields of any name; of a text that is no JSON, some number."""
    # An escaped quote ends no string; a backslash may itself be escaped.
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _OTHERS)
    deepest = level = 0
    in_string = False
    for start in range(0, len(bare), _CHUNK):
        chunk = np.frombuffer(bare, np.uint8, min(_CHUNK, len(bare) - start), start)
        inside = (np.logical_xor.accumulate(chunk == _QUOTE[0])) != in_string
        levels = level + np.cumsum(np.where(inside, 0, _STEP[chunk]), dtype=np.int64)
        deepest = max(deepest, int(levels.max()))
        level, in_string = int(levels[-1]), bool(inside[-1])
    return deepest
