"""Our clients against OpenAI's Python SDK: 10,000 texts, the same real server, wall and CPU time.

Once with an engine that answers at once (1,024 dimensions), so that clients are what is measured, and once
with nano, whose result cache has the texts after the first time. The server has a core of its own; the
clients share the other and take turns. The SDK is used in two ways: 2,048 inputs a request, one after
another, and in requests as large and as many at a time as ours. Its vectors stay the lists of Python floats
that it makes; ours are one numpy matrix.
"""

import argparse
import asyncio
import gc
import os
import statistics
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

import numpy as np
import openai
from api import server
from workload import english_texts, report

from hexgrid import AsyncClient, Client, nano
from hexgrid.encoding import Vectors
from hexgrid.model.hub import resolve
from hexgrid.tokenizer import Tokenizer

_NUM_TEXTS = 10_000
_KEY = "no key is needed"
_MOST_INPUTS = 2_048
_CONCURRENCY = 4
_INPUTS_LIKE_OURS = 256  # at 8,192 tokens a request and 32 a text

# A server's address, and the texts -> as many vectors.
Ask = Callable[[str, list[str]], Vectors | list[list[float]]]


def openai_in_turn(url: str, texts: list[str]) -> list[list[float]]:
    with openai.OpenAI(base_url=url, api_key=_KEY) as client:
        return [
            item.embedding
            for start in range(0, len(texts), _MOST_INPUTS)
            for item in client.embeddings.create(
                model=nano.NAME, input=texts[start : start + _MOST_INPUTS]
            ).data
        ]


def openai_at_once(url: str, texts: list[str]) -> list[list[float]]:
    async def ask() -> list[list[float]]:
        free = asyncio.Semaphore(_CONCURRENCY)
        async with openai.AsyncOpenAI(base_url=url, api_key=_KEY) as client:

            async def part(start: int) -> list[list[float]]:
                async with free:
                    answer = await client.embeddings.create(
                        model=nano.NAME, input=texts[start : start + _INPUTS_LIKE_OURS]
                    )
                return [item.embedding for item in answer.data]

            starts = range(0, len(texts), _INPUTS_LIKE_OURS)
            parts = await asyncio.gather(*map(part, starts))
        return [vector for each in parts for vector in each]

    return asyncio.run(ask())


def ours(url: str, texts: list[str]) -> Vectors:
    with Client(url, model=nano.NAME, concurrency=_CONCURRENCY) as client:
        return client.embed(texts)


def ours_async(url: str, texts: list[str]) -> Vectors:
    async def ask() -> Vectors:
        async with AsyncClient(url, model=nano.NAME, concurrency=_CONCURRENCY) as client:
            return await client.embed(texts)

    return asyncio.run(ask())


_ARMS: dict[str, Ask] = {
    "openai, one request after another": openai_in_turn,
    "openai, 4 at a time": openai_at_once,
    "hexgrid.Client": ours,
    "hexgrid.AsyncClient": ours_async,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--engine", action="append", choices=["null", "cached"])
    arguments = parser.parse_args()
    server_core, client_core = sorted(os.sched_getaffinity(0))[:2]
    path = resolve(nano.NAME, revision=None, download_dir=None) / "tokenizer.json"
    tokenizer = Tokenizer(path, vocab_size=151_936, max_model_len=32_768)
    texts = english_texts(tokenizer, _NUM_TEXTS, mean=32)
    rows = []
    for engine in arguments.engine or ("null", "cached"):
        with server(engine, server_core, "console") as port:
            os.sched_setaffinity(0, {client_core})
            rows += measured(engine, f"http://127.0.0.1:{port}/v1", texts, arguments.rounds)
            os.sched_setaffinity(0, {server_core, client_core})
    report(f"{_NUM_TEXTS} texts, the server on a core of its own", rows, {"benchmark": "client"})


def measured(engine: str, url: str, texts: list[str], rounds: int) -> list[dict[str, Any]]:
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in _ARMS}
    same: Vectors | None = None
    for (
        name,
        ask,
    ) in _ARMS.items():  # connections, caches and lazy imports; and that all have the same vectors
        matrix = np.array(ask(url, texts), dtype=np.float32)
        same = matrix if same is None else same
        if not np.allclose(matrix, same, atol=1e-5):
            raise SystemExit(f"{name} has other vectors")
    for _ in range(rounds):
        for name, ask in _ARMS.items():
            gc.collect()
            wall, cpu = perf_counter(), process_time()
            ask(url, texts)
            found[name].append((perf_counter() - wall, process_time() - cpu))
    return [
        {
            "engine": engine,
            "client": name,
            "wall (s)": statistics.median(wall for wall, _ in times),
            "CPU (s)": statistics.median(cpu for _, cpu in times),
            "wall of each": " ".join(f"{wall:.2f}" for wall, _ in times),
            "CPU of each": " ".join(f"{cpu:.2f}" for _, cpu in times),
        }
        for name, times in found.items()
    ]


if __name__ == "__main__":
    main()
