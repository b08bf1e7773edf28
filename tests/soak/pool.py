"""Inputs with the vectors that the server must answer, computed in this process before it is asked."""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hexgrid.benchmark.workload import Workload
from hexgrid.cli.models import opened
from hexgrid.config import EngineConfig
from hexgrid.encoding import Vectors
from hexgrid.engine.served_model import ServedModel
from hexgrid.model import pooling

PRECISION: Literal["float32"] = "float32"
HEAVY_TOKENS = 100
LONG_TOKENS = 3_000  # of a long text, EOS left out
_AT_ONCE = 256


@dataclass(frozen=True)
class Item:
    """An input, and its vector [D]."""

    input: str | list[int]
    vector: Vectors


@dataclass(frozen=True)
class Pool:
    """Inputs of each kind."""

    short: list[Item]  # texts of 4 to 60 tokens
    long: list[Item]  # texts of up to LONG_TOKENS, of which many are more than a batch holds
    hot: list[Item]  # few texts, which are asked for again and again
    heavy: list[Item]  # lists of HEAVY_TOKENS ids


def make_pool(*, num_short: int, num_long: int, num_heavy: int, seed: int = 0) -> Pool:
    """So many inputs of each kind, the same for the same seed."""
    chance, workload = random.Random(seed), Workload(seed)

    def texts(count: int, fewest: int, most: int) -> list[str]:
        lengths = [chance.randint(fewest, most) for _ in range(count)]
        return [next(workload.requests(length, 1))[0] for length in lengths]

    ids = [chance.choices(range(100_000), k=HEAVY_TOKENS) for _ in range(num_heavy)]
    with opened(None, EngineConfig(dtype=PRECISION).without_caches()) as model:
        return Pool(
            short=_items(model, texts(num_short, 4, 60)),
            long=_items(model, texts(num_long, 500, LONG_TOKENS)),
            hot=_items(model, texts(20, 4, 60)),
            heavy=_items(model, ids),
        )


def _items(model: ServedModel, inputs: Iterable[str | list[int]]) -> list[Item]:
    todo = list(inputs)
    rows: list[Vectors] = []
    for start in range(0, len(todo), _AT_ONCE):
        encoded = model.tokenizer.encode(todo[start : start + _AT_ONCE])  # type: ignore[arg-type]
        hidden = model.engine.submit(encoded.token_ids).result()
        rows.extend(pooling.finish(hidden, dimensions=None, normalize=True))
    return [Item(each, np.array(row)) for each, row in zip(todo, rows, strict=True)]
