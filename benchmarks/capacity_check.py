"""The queues of capacity.py beside the engine's own: the same arrivals, the latencies of both.

Everything of the engine is real (threads, scheduler, admission, futures) but the forward pass, which
sleeps for as long as the model says that it takes. So what differs is what the simulation leaves out, and how
exactly this machine sleeps and wakes, and not how fast it multiplies at the moment; that is checked by
`capacity.py --check`.
"""

import argparse
import threading
import time
from collections.abc import Callable, Generator
from collections.abc import Sequence as Items
from concurrent.futures import Future
from time import perf_counter
from typing import Any

import numpy as np
from capacity import Device, batch_seconds, latencies, model
from workload import report

from hexgrid.encoding import Vectors
from hexgrid.engine.engine import NativeEngine
from hexgrid.engine.result_cache import ResultCache
from hexgrid.engine.scheduler import Scheduler
from hexgrid.engine.sequence import Salt
from hexgrid.metrics import Metrics, ModelMetrics
from hexgrid.wire import TokenIds

_MODEL = model("0.6B")
# A slow one, so that a millisecond of the machine's own does not count.
_DEVICE = Device("slow", 5e12, 1e12, 0.25, 0.02, 128)
_TOKENS = 16  # of each input
_MOST_SEQUENCES = 512


class SleepingRunner:
    """See `protocols.Runner`."""

    hidden_size = 1
    runs_async = False

    def run(self, token_ids: Items[TokenIds], salts: Items[Salt] = ()) -> Callable[[], Vectors]:
        del salts
        end = perf_counter() + batch_seconds(_DEVICE, _MODEL, [len(ids) for ids in token_ids])
        hidden = np.ones((len(token_ids), 1), dtype=np.float32)

        def collect() -> Vectors:
            sleep_until(end)
            return hidden

        return collect

    def steps(self, token_ids: TokenIds) -> Generator[None, None, Vectors]:
        yield
        return self.run([token_ids])()

    def run_float32(self, token_ids: Items[TokenIds]) -> Vectors:
        return self.run(token_ids)()


def sleep_until(moment: float) -> None:
    """On the clock of `perf_counter`; not at all where it is past."""
    time.sleep(max(0.0, moment - perf_counter()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    parser.add_argument("--load", type=float, action="append", help="share of the capacity")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    loads = arguments.load or (0.2, 0.5, 0.8)
    rows = [compared(load, arguments.seconds, arguments.seed) for load in loads]
    report("The simulation beside the real engine", rows, {"benchmark": "capacity_check"})


def compared(load: float, seconds: float, seed: int) -> dict[str, Any]:
    """One load in both."""
    most = _DEVICE.batch_tokens // _TOKENS
    rate = load * most / batch_seconds(_DEVICE, _MODEL, [_TOKENS] * most)
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, int(rate * seconds)))
    measured = asked(arrivals)
    lengths = [float(_TOKENS)] * len(arrivals)
    simulated = latencies(_DEVICE, _MODEL, lengths, arrivals.tolist())
    row: dict[str, Any] = {"load": load, "inputs/s": rate}
    for name, quantile in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        real, model_s = (1e3 * float(np.quantile(each, quantile)) for each in (measured, simulated))
        row |= {f"{name} real (ms)": real, "simulated" + f" {name}": model_s}
    return row


def asked(arrivals: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Seconds from each arrival, as planned, to its answer by the engine."""
    engine = NativeEngine(
        SleepingRunner(),
        Scheduler(max_num_batched_tokens=_DEVICE.batch_tokens, max_num_seqs=_MOST_SEQUENCES),
        ModelMetrics(Metrics(), "m"),
        results=ResultCache(0),
        max_num_queued_tokens=10**9,
    )
    ends = np.zeros(len(arrivals))
    left = threading.Semaphore(0)
    start = perf_counter()
    for index, when in enumerate(arrivals):
        sleep_until(start + when)

        def note(_: Future[Any], index: int = index) -> None:
            ends[index] = perf_counter()
            left.release()

        engine.submit([[index + 1] * _TOKENS]).add_done_callback(note)
    for _ in arrivals:
        left.acquire()
    engine.close()
    ends -= start + arrivals
    return ends


if __name__ == "__main__":
    main()
