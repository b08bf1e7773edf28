"""Requests a second that the server's own part can take: HTTP, JSON, tokenizer, answer; on one core.

One text of 18 words a request over 16 connections. Once with an engine that answers at once (1,024
dimensions), each text another; once with nano and the same text again and again, which the result cache
answers. What uvicorn and Starlette leave room for is told by a bare application on the same connections,
which reads the body and sends the null engine's answer as bytes that it has. The client has another core,
writes raw HTTP, and does not look at the vectors. Every request is logged, to nowhere.
"""

import argparse
import asyncio
import dataclasses
import json
import multiprocessing
import os
import statistics
import typing
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import cycle, islice
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter

import numpy as np
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from workload import report, sentences

from hexgrid import nano
from hexgrid.config import EngineConfig, LogFormat, ServerConfig
from hexgrid.encoding import Vectors, to_base64
from hexgrid.engine.native import open_model
from hexgrid.engine.sequence import NO_SALT, Salt
from hexgrid.garbage import made_to_stay
from hexgrid.metrics import Metrics
from hexgrid.server.answer import Answer, embeddings_body, json_of
from hexgrid.server.app import create_app
from hexgrid.server.logs import Logs
from hexgrid.server.registry import Models
from hexgrid.server.serving import bind, new_server
from hexgrid.wire import TokenIds

_WIDTH = 1_024
_NUM_WORDS = 18  # some twenty tokens, about as long as a query usually is
_NUM_TEXTS = 5_000
_CONNECTIONS = 16


class NullEngine:
    """See `protocols.Engine`; the same random vector for every input."""

    hidden_size = _WIDTH

    def __init__(self) -> None:
        self.death: Future[str] = Future()
        self._one = np.random.default_rng(0).standard_normal((1, _WIDTH), dtype=np.float32)

    def submit(
        self, token_ids: Sequence[TokenIds], *, priority: int = 0, salt: Salt = NO_SALT
    ) -> Future[Vectors]:
        del priority, salt
        future: Future[Vectors] = Future()
        future.set_result(self._one.repeat(len(token_ids), axis=0))
        return future

    def retry_after(self) -> int:
        return 1

    def check_health(self) -> None:
        """It is always well."""

    def close(self) -> None:
        """There is nothing to stop."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--log-format", choices=typing.get_args(LogFormat), default="console")
    arguments = parser.parse_args()
    server_core, client_core = sorted(os.sched_getaffinity(0))[:2]
    texts = list(islice(sentences(_NUM_WORDS), _NUM_TEXTS))
    found: dict[tuple[str, str], list[float]] = {}
    for engine in ("bare", "null", "cached"):
        with server(engine, server_core, arguments.log_format) as port:
            os.sched_setaffinity(0, {client_core})
            for _ in range(arguments.rounds):
                for encoding in ("float", "base64"):
                    asked = texts[:1] if engine == "cached" else texts
                    rate = uvloop.run(ask(port, encoding, asked, arguments.seconds))
                    found.setdefault((engine, encoding), []).append(rate)
    rows = [
        {
            "engine": engine,
            "encoding_format": encoding,
            "requests/s": statistics.median(rates),
            "runs": " ".join(f"{rate:.0f}" for rate in rates),
        }
        for (engine, encoding), rates in found.items()
    ]
    report("One text a request, the server on one core", rows, {"benchmark": "api"})


@contextmanager
def server(engine: str, core: int, log_format: LogFormat) -> Iterator[int]:
    """A server in a process of its own on one core; its port."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=run, args=(engine, core, log_format, theirs)
    )
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def run(engine: str, core: int, log_format: LogFormat, started: Connection) -> None:
    """The body of the server's process."""
    os.sched_setaffinity(0, {core})
    metrics, config = Metrics(), ServerConfig(port=0, log_format=log_format)
    with bind(config) as listener, Path(os.devnull).open("w") as nowhere:
        with made_to_stay():
            model = open_model([nano.NAME], nano.NAME, EngineConfig(num_threads=1), metrics)
            if engine == "null":
                model.engine.close()
                model = dataclasses.replace(model, engine=NullEngine(), embedding_dimension=_WIDTH)
            models = Models([model])
            logs = Logs(config, nowhere)
            app = bare() if engine == "bare" else create_app(models, config, metrics, logs.requests)
            server = new_server(app, config, metrics, None, models.drain)
        server.take_signals()
        listener.listen()
        started.send(listener.getsockname()[1])
        server.run(sockets=[listener])
        logs.close()


def bare() -> Starlette:
    """One route that has its answers."""
    rows = NullEngine().submit([[0]]).result()
    answer = Answer("embd-" + 32 * "0", 0, nano.NAME, rows, 20)
    numbers = json_of(embeddings_body(answer, list(rows)))
    texts = json_of(embeddings_body(answer, [to_base64(rows[0], "float32", "native")]))

    async def embeddings(request: Request) -> Response:
        body = await request.body()
        return Response(texts if b"base64" in body else numbers, media_type="application/json")

    return Starlette(routes=[Route("/v1/embeddings", embeddings, methods=["POST"])])


def request_of(text: str, encoding: str) -> bytes:
    """What goes over the wire."""
    body = json.dumps({"input": text, "encoding_format": encoding}).encode()
    return (
        b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )


async def ask(port: int, encoding: str, texts: Sequence[str], seconds: float) -> float:
    """Requests a second over all connections, each asking again once it is answered."""
    requests = cycle([request_of(text, encoding) for text in texts])
    end = perf_counter() + seconds

    async def connection() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        count = 0
        while perf_counter() < end:
            writer.write(next(requests))
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(head.decode())
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
            count += 1
        writer.close()
        return count

    start = perf_counter()
    counts = await asyncio.gather(*(connection() for _ in range(_CONNECTIONS)))
    return sum(counts) / (perf_counter() - start)


if __name__ == "__main__":
    main()
