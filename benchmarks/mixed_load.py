"""Short inputs while a long one is computed: what it costs them, and how long it takes itself.

Callers ask for short texts, one after the other, first alone and then beside one caller of long ones. In
process, so that both are in one queue.
"""

import argparse
import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from throughput import PRECISIONS, opened
from workload import checkpoint, report

from hexgrid.benchmark.load import Measured, Point, measure
from hexgrid.benchmark.targets import in_process
from hexgrid.benchmark.workload import Workload
from hexgrid.engine.served_model import ServedModel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="default: a random one of the 0.6B shape")
    parser.add_argument("--layers", type=int, help="fewer layers for the random one")
    parser.add_argument("--precision", choices=PRECISIONS, action="append")
    parser.add_argument("--short", type=int, default=32, help="tokens of a short text")
    parser.add_argument("--long", type=int, default=8_192, help="tokens of a long one")
    parser.add_argument("--callers", type=int, default=8, help="of short texts")
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    rows = []
    with (
        checkpoint(arguments.checkpoint, "0.6B", num_layers=arguments.layers) as directory,
        ExitStack() as stack,
    ):
        for precision in arguments.precision or PRECISIONS:
            model = stack.enter_context(opened(directory, precision))
            rows.append({"precision": precision, **asyncio.run(compare(model, arguments))})
    report(
        f"{arguments.callers} callers of {arguments.short} tokens, alone and beside one of "
        f"{arguments.long} tokens",
        rows,
        {"benchmark": "mixed_load"},
    )


async def compare(model: ServedModel, arguments: argparse.Namespace) -> dict[str, Any]:
    """The figures of one model."""
    seconds = arguments.seconds
    short = Point(arguments.short, arguments.callers, 1)
    long = Point(arguments.long, 1, 1)
    alone = await load(model, short, seconds, seed=0)
    long_alone = await load(model, long, 0.0, seed=1)
    beside, long_beside = await asyncio.gather(
        load(model, short, max(seconds, 2 * long_alone.seconds), seed=2),
        load(model, long, seconds, seed=3),
    )
    p95, p95_beside = (each.summary()["p95_ms"] for each in (alone, beside))
    assert p95 is not None
    assert p95_beside is not None
    return {
        "short p50 alone (ms)": alone.summary()["p50_ms"],
        "short p95 alone (ms)": p95,
        "short p95 beside (ms)": p95_beside,
        "times": p95_beside / p95,
        "long alone (s)": long_alone.latencies[0],
        "long beside (s)": max(long_beside.latencies),
    }


async def load(model: ServedModel, point: Point, seconds: float, *, seed: int) -> Measured:
    """One kind of load, texts that no other has."""
    requests = Workload(seed).requests(point.num_tokens, point.num_inputs)
    return await measure(in_process(model), requests, point, seconds=seconds, warm_up=0.0)


if __name__ == "__main__":
    main()
