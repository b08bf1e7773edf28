"""What Ray costs beside the native server, and what a second replica brings.

Three servers take turns, each with the same settings: `hexgrid serve`; Ray's proxy, one ingress and one
replica of each model; the same with two replicas. Asked are: one text that the result cache of whoever
answers HTTP has, so that only what is in front of the engine counts; texts of nano that nobody has seen; and
requests of 16 texts for some layers of the 0.6B shape, in which computing is nearly all. Each process that
computes has one thread.

All on one machine: two replicas share its processors with the client, Ray's proxy and Ray's own processes.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import uvloop
from workload import checkpoint, report

# The cluster of the tests, which is in the repository beside this.
sys.path.append(str(Path(__file__).parents[1]))

_TEXT = "What is the capital of China? Twenty tokens are about as long as a query usually is."
_WORDS = "gravity planet orbit energy protein enzyme voltage circuit river mountain harbour".split()
_BATCH, _BATCH_WORDS = 16, 60


class Workload(NamedTuple):
    """Bodies of requests without end, and how many connections send them."""

    model: str
    num_connections: int
    next_input: Callable[[], str | list[str]]


class Answered(NamedTuple):
    """What came of one turn."""

    requests_per_second: float
    latencies: list[float]  # seconds
    tokens_per_second: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument(
        "--haproxy",
        action="store_true",
        help="HAProxy in front of the ingress, in place of Ray's proxy",
    )
    arguments = parser.parse_args()
    variables = {"RAY_SERVE_ENABLE_HA_PROXY": "1"} if arguments.haproxy else {}
    with checkpoint(None, "0.6B", num_layers=arguments.layers) as large:
        found = measure(large, arguments.seconds, arguments.rounds, variables)
    rows = [
        {
            "asked": asked,
            "server": server,
            "requests/s": statistics.median(each.requests_per_second for each in turns),
            "p50 (ms)": 1e3 * statistics.median(each for turn in turns for each in turn.latencies),
            "tokens/s": statistics.median(each.tokens_per_second for each in turns),
            "runs (requests/s)": " ".join(f"{each.requests_per_second:.4g}" for each in turns),
        }
        for (asked, server), turns in found.items()
    ]
    report("The native server and Ray's ingress", rows, {"benchmark": "ray_ingress", **variables})


def measure(
    large: Path, seconds: float, rounds: int, variables: Mapping[str, str]
) -> dict[tuple[str, str], list[Answered]]:
    """Every workload against every server, in turns; a cluster, of these variables, is deployed to anew."""
    from tests.scale.cluster import running_cluster

    found: dict[tuple[str, str], list[Answered]] = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cluster = stack.enter_context(running_cluster(directory, **variables))
        for _ in range(rounds):
            for name, num_replicas in (
                ("native", 0),
                ("Ray, 1 replica", 1),
                ("Ray, 2 replicas", 2),
            ):
                with (
                    native(large)
                    if num_replicas == 0
                    else ray(cluster, large, num_replicas) as port
                ):
                    for asked, workload in workloads().items():
                        uvloop.run(ask(port, workload, seconds / 5))  # both replicas are warm then
                        answered = uvloop.run(ask(port, workload, seconds))
                        found.setdefault((asked, name), []).append(answered)
    return dict(sorted(found.items()))


def workloads() -> dict[str, Workload]:
    numbers = itertools.count()

    def new_text(num_words: int) -> str:
        number = next(numbers)
        words = (_WORDS[(number * k) % len(_WORDS)] for k in range(1, num_words))
        return f"{number} " + " ".join(words)

    return {
        "1: cached text": Workload("nano", 16, lambda: _TEXT),
        "2: new text, one connection": Workload("nano", 1, lambda: new_text(20)),
        "3: new text, 16 connections": Workload("nano", 16, lambda: new_text(20)),
        "4: 16 new texts, 4 connections": Workload(
            "large", 4, lambda: [new_text(_BATCH_WORDS) for _ in range(_BATCH)]
        ),
    }


@contextmanager
def native(large: Path) -> Iterator[int]:
    """The port of `hexgrid serve`, on one thread a model."""
    from tests.cli.hexgrid_process import serve

    models = ("nano=hexgrid/nano", f"large={large}")
    with serve(
        *models, "--num-threads", "1", "--dtype", "float32", "--log-level", "error"
    ) as serving:
        yield int(serving.url.rpartition(":")[2])


@contextmanager
def ray(cluster: Any, large: Path, num_replicas: int) -> Iterator[int]:
    """The port of Ray's proxy."""
    shared = {"num_cpus": 0.2, "min_replicas": num_replicas, "max_replicas": num_replicas}
    models = [
        {"model": "hexgrid/nano", "names": ["nano"]},
        {"model": str(large), "names": ["large"]},
    ]
    done = cluster.deploy(
        {
            "server": {"allow_anonymous": True, "log_level": "error"},
            "engine": {"num_threads": 1, "dtype": "float32"},
            "ingress": {"num_cpus": 0.2},
            "models": [model | shared for model in models],
        }
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    with cluster.client() as client:
        assert client.base_url.port is not None
        yield client.base_url.port


async def ask(port: int, workload: Workload, seconds: float) -> Answered:
    """Every connection asks again once it is answered."""
    latencies: list[float] = []
    num_tokens = 0
    end = perf_counter() + seconds

    async def connection() -> None:
        nonlocal num_tokens
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while perf_counter() < end:
            body = {"model": workload.model, "input": workload.next_input()}
            start = perf_counter()
            writer.write(request(json.dumps(body | {"encoding_format": "base64"}).encode()))
            answer = await read(reader)
            latencies.append(perf_counter() - start)
            num_tokens += answer["usage"]["prompt_tokens"]
        writer.close()

    start = perf_counter()
    await asyncio.gather(*(connection() for _ in range(workload.num_connections)))
    took = perf_counter() - start
    return Answered(len(latencies) / took, latencies, num_tokens / took)


def request(body: bytes) -> bytes:
    return (
        b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )


async def read(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The JSON of one answer, which must be a good one."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    body = await reader.readexactly(length)
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(head.decode() + body.decode())
    answer: dict[str, Any] = json.loads(body)
    return answer


if __name__ == "__main__":
    main()
