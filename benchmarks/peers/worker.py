"""A worker's loop, in the peer's environment: a line of token ids in, a line of vectors out."""

import base64
import json
import sys
from collections.abc import Callable
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

Embed = Callable[[list[list[int]]], list[list[float]]]


def serve(embed: Embed) -> None:
    """Answer until standard input ends; the seconds are those of `embed` alone."""
    embed([[1, 2, 3]])
    _write({"ready": True})
    for line in sys.stdin:
        inputs = json.loads(line)
        start = perf_counter()
        vectors = embed(inputs)
        seconds = perf_counter() - start
        _write({"seconds": seconds, "vectors": base64.b64encode(_unit(vectors).tobytes()).decode()})


def _unit(vectors: list[list[float]]) -> NDArray[np.float32]:
    rows = np.asarray(vectors, np.float32)
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def _write(answer: dict[str, object]) -> None:
    print("\n" + json.dumps(answer), flush=True)
