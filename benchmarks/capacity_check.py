"""The simulation of capacity.py beside the real engine: the same arrivals, the latencies of both.

The engine computes some layers of the 0.6B shape on one thread. Its time for one short input and for a full
batch are measured first; from these two the model has its fixed time and its rate. Then inputs arrive at
random, at some shares of what can be computed, and wait in the real engine and in the simulated one.
"""

import argparse
import threading
import time
from concurrent.futures import Future
from time import perf_counter
from typing import Any

import numpy as np
from capacity import Device, batch_seconds, latencies, operations
from workload import checkpoint, report

from hexgrid.config import EngineConfig
from hexgrid.engine.native import open_model
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics

_SHORT, _FULL_INPUTS, _BATCH_TOKENS = 32, 32, 1024
_REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--load", type=float, action="append", help="share of the capacity")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    config = EngineConfig(
        dtype="float32", num_threads=1, max_num_batched_tokens=_BATCH_TOKENS
    ).without_caches()
    with checkpoint(None, "0.6B", num_layers=arguments.layers) as directory:
        model = open_model(["m"], directory, config, Metrics())
        rows = []
        for load in arguments.load or (0.3, 0.6, 0.8):
            device = calibrated(model)  # again for each, as the machine's speed changes
            rows.append(compared(model, device, load, arguments.seconds, arguments.seed))
        model.engine.close()
    report("The simulation beside the real engine", rows, {"benchmark": "capacity_check"})


def calibrated(model: ServedModel) -> Device:
    """The device whose batches take what this engine's take."""
    short = _seconds(model, 1)
    full = _seconds(model, _FULL_INPUTS)
    per_input = operations(model.config, _SHORT)
    flops = (_FULL_INPUTS - 1) * per_input / (full - short)
    return Device("here", flops, 1e15, 1.0, max(0.0, short - per_input / flops), _BATCH_TOKENS)


def compared(
    model: ServedModel, device: Device, load: float, seconds: float, seed: int
) -> dict[str, Any]:
    """One load in both."""
    capacity = _FULL_INPUTS / batch_seconds(device, model.config, [_SHORT] * _FULL_INPUTS)
    rate = load * capacity
    random = np.random.default_rng(seed)
    arrivals = np.cumsum(random.exponential(1 / rate, int(rate * seconds)))
    measured = _asked(model, arrivals, random)
    lengths = [float(_SHORT)] * len(arrivals)
    simulated = latencies(device, model.config, lengths, arrivals.tolist())
    row: dict[str, Any] = {"load": load, "inputs/s": rate}
    for name, quantile in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        real, model_s = (1e3 * float(np.quantile(each, quantile)) for each in (measured, simulated))
        row |= {f"{name} real (ms)": real, f"{name} simulated": model_s}
    return row


def _seconds(model: ServedModel, num_inputs: int) -> float:
    """The median time of so many short inputs that are submitted together to an idle engine."""
    random = np.random.default_rng(num_inputs)
    times = []
    for _ in range(_REPEATS):
        start = perf_counter()
        model.engine.submit(_inputs(random, num_inputs)).result()
        times.append(perf_counter() - start)
    return float(np.median(times))


def _asked(
    model: ServedModel, arrivals: "np.ndarray[Any, Any]", random: np.random.Generator
) -> "np.ndarray[Any, Any]":
    """Seconds from each arrival, as planned, to its answer."""
    ends = np.zeros(len(arrivals))
    left = threading.Semaphore(0)
    inputs = [_inputs(random, 1) for _ in arrivals]
    start = perf_counter()
    for index, (when, ids) in enumerate(zip(arrivals, inputs, strict=True)):
        time.sleep(max(0.0, start + when - perf_counter()))

        def note(_: Future[Any], index: int = index) -> None:
            ends[index] = perf_counter()
            left.release()

        model.engine.submit(ids).add_done_callback(note)
    for _ in arrivals:
        left.acquire()
    ends -= start + arrivals
    return ends


def _inputs(random: np.random.Generator, number: int) -> list[list[int]]:
    ids: list[list[int]] = random.integers(1, 150_000, (number, _SHORT)).tolist()
    return ids


if __name__ == "__main__":
    main()
