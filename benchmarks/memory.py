"""What a server takes to start and in memory, in each precision, and whether its memory stays flat.

`hexgrid serve` with a checkpoint of the 0.6B shape: seconds to /ready (of later starts, when its files are
in the page cache and, in int8, the weights quantised), and resident memory when it is ready, after the first
inputs and after many. Half of the inputs begin alike, so that the prefix cache is used, and fill the result
cache.
"""

import argparse
import asyncio
from pathlib import Path
from typing import Any

from server import Running, running, start_time
from throughput import PRECISIONS
from workload import checkpoint, report

from hexgrid.benchmark.load import Point, measure
from hexgrid.benchmark.targets import Server, over_http
from hexgrid.benchmark.workload import Workload
from hexgrid.model.checkpoint import open_checkpoint

_NAME = "measured"
_TASK = (
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="default: a random one of the 0.6B shape")
    parser.add_argument("--layers", type=int, help="fewer layers for the random one")
    parser.add_argument("--precision", choices=PRECISIONS, action="append")
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=16, help="of a text")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load")
    arguments = parser.parse_args()
    with checkpoint(arguments.checkpoint, "0.6B", num_layers=arguments.layers) as directory:
        stored = open_checkpoint(directory).num_bytes
        rows = [
            {"precision": each, **measured(directory, each, arguments)}
            for each in arguments.precision or PRECISIONS
        ]
    report(f"A checkpoint of {stored / 1e9:.2f} GB", rows, {"benchmark": "memory"})


def measured(directory: Path, precision: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The row of one precision."""
    serve = [f"{_NAME}={directory}", "--quantized-dir", str(directory.parent / "quantized")]
    for name, value in PRECISIONS[precision].items():
        serve += [f"--{name}", value]
    start_time(*serve)  # warms the page cache, and quantises
    starts = sorted(start_time(*serve) for _ in range(arguments.starts))
    with running(*serve) as server:
        ready = server.resident_bytes
        asyncio.run(load(server, arguments.tokens, 2.0))
        first = server.resident_bytes
        inputs = asyncio.run(load(server, arguments.tokens, arguments.seconds))
        return {
            "ready (s)": starts[len(starts) // 2],
            "ready (MB)": ready / 1e6,
            "after first inputs (MB)": first / 1e6,
            "after all (MB)": server.resident_bytes / 1e6,
            "inputs": inputs,
        }


async def load(server: Running, num_tokens: int, seconds: float) -> int:
    """Ask in requests of 32 texts; how many texts were answered."""
    target = Server(f"http://127.0.0.1:{server.port}/v1", _NAME, None, "base64")
    point = Point(num_tokens, 4, 32)
    requests = (
        [_TASK + text if number % 2 else text for number, text in enumerate(texts)]
        for texts in Workload(int(seconds)).requests(num_tokens, 32)
    )
    async with over_http(target) as ask:
        found = await measure(ask, requests, point, seconds=seconds, warm_up=0.0)
    return 32 * len(found.latencies)


if __name__ == "__main__":
    main()
