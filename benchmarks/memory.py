"""What a server takes to start and in memory, in each precision, and whether its memory stays flat.

`hexgrid serve` with a checkpoint of the 0.6B shape: seconds to /ready (of later starts, when its files are
in the page cache and, in int8, the weights quantised), and resident memory when it is ready and after so many
inputs. Half of the inputs begin alike, so that the prefix cache is used, and they fill the result cache.
"""

import argparse
import asyncio
import itertools
from pathlib import Path
from typing import Any

from server import Running, running, start_time
from throughput import PRECISIONS
from workload import checkpoint, report

from hexgrid.benchmark.targets import Server, over_http
from hexgrid.benchmark.workload import Workload
from hexgrid.model.checkpoint import open_checkpoint

_NAME = "measured"
_INPUTS = (100, 1000)
_AT_A_TIME, _CALLERS = 32, 4
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
    parser.add_argument(
        "--inputs",
        type=int,
        action="append",
        help="after so many inputs memory is looked at; repeat. Default: 100, 1000",
    )
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
        found: dict[str, float] = {
            "ready (s)": starts[len(starts) // 2],
            "ready (MB)": server.resident_bytes / 1e6,
        }
        done = 0
        for count in sorted(arguments.inputs or _INPUTS):
            asyncio.run(load(server, arguments.tokens, start=done, end=count))
            done = count
            found[f"{count} inputs (MB)"] = server.resident_bytes / 1e6
        return found


async def load(server: Running, num_tokens: int, *, start: int, end: int) -> None:
    """Ask for the inputs from number `start` to `end`, in requests of 32 texts from four callers."""
    target = Server(f"http://127.0.0.1:{server.port}/v1", _NAME, None, "base64")
    numbers = itertools.count(start, _AT_A_TIME)
    texts = Workload(start).requests(num_tokens, _AT_A_TIME)
    async with over_http(target) as ask:

        async def caller() -> None:
            while (number := next(numbers)) < end:
                request = next(texts)[: end - number]
                await ask([_TASK + text if at % 2 else text for at, text in enumerate(request)])

        async with asyncio.TaskGroup() as callers:
            for _ in range(_CALLERS):
                callers.create_task(caller())


if __name__ == "__main__":
    main()
