"""How many GPUs, hours, bytes: a model of capacity, and what it says of what was measured here.

A device computes a batch in a fixed time and a time by its operations; those of the linear layers and of
attention are counted, and the share of the peak that is reached is one number. A replica takes what waits, up
to a batch, whenever it is free, as the engine does: that is simulated, arrival by arrival.

What is assumed of GPUs is in GPUS and marked; it is not measured. `--check` compares the model with what was
measured on processors (benchmarks/RESULTS.md): figures of GPUs are as good as their assumptions, the rest of
the model as good as that.
"""

import argparse
import heapq
import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from workload import report

from hexgrid.model.config import ModelConfig
from hexgrid.model.gemm import linear_operations
from hexgrid.model.synthetic import SHAPES, Size

DOCUMENTS = (10**6, 10**7, 10**8, 10**9, 10**10)
QUERIES_PER_SECOND = (10, 100, 1_000, 10_000, 100_000)
ENCODINGS = {"float32": 4.0, "float16": 2.0, "int8": 1.0, "binary": 1 / 8}
# Bytes on the wire for one number: JSON's digits, and base64 of float32.
WIRE = {"float": 11.5, "base64": 4 * 4 / 3, "float16 as bytes": 2.0}
_TEXT_BYTES_PER_TOKEN = 4.2  # English, as `hexgrid bench` sends it
# Inputs in one simulated run: enough for a p99 to stand still to a few percent.
_ARRIVALS = 20_000
_MOST_SEQUENCES = 512
# Simulated together; and where the search ends.
_GROUP, _MOST_REPLICAS = 32, 10**5


class Device(NamedTuple):
    """What computes one replica's batches."""

    name: str
    flops: float  # a second, dense, at the precision that is used
    bytes_per_second: float  # of its memory
    share: float  # of `flops` that long batches reach
    fixed_seconds: float  # of every batch: launches, copies, Python
    batch_tokens: int


# Peaks of data sheets (dense bfloat16). The share and the fixed time are ASSUMED, from what other engines
# report for models of this size; hexgrid has not been measured on any of them.
GPUS = (
    Device("L4", 121e12, 0.30e12, 0.40, 0.003, 16_384),
    Device("A100 80GB", 312e12, 2.0e12, 0.45, 0.003, 16_384),
    Device("H100 SXM", 989e12, 3.35e12, 0.40, 0.003, 16_384),
)


class Measured(NamedTuple):
    """A run of RESULTS.md: texts of so many tokens, at so many multiplications a second."""

    name: str
    gemm_rate: float
    mean_tokens: float
    tokens_per_second: float


# The 0.6B shape on two cores. GEMM rates are of the same runs, where RESULTS.md gives them.
MEASURED = (
    Measured("float32, EPYC, 5acfb56", 151e9, 78, 155),
    Measured("float32, EPYC, 4267083", 180e9, 78, 171),
    Measured("bfloat16, EPYC, 4267083", 405e9, 78, 334),
    Measured("int8, EPYC, 4267083", 596e9, 78, 507),
)
_CPU_SHARE = 0.75  # one number for all of them: the check is how far off that is


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only against what was measured")
    parser.add_argument("--document-tokens", type=int, default=512)
    parser.add_argument("--query-tokens", type=int, default=32)
    parser.add_argument(
        "--p99", type=float, default=0.1, help="seconds that 99% of queries may take"
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    check()
    if arguments.check:
        return
    bulk(arguments.document_tokens)
    storage()
    online(Queries(arguments.query_tokens, arguments.p99, arguments.seed))
    network(arguments.query_tokens)


def model(size: Size) -> ModelConfig:
    """The published shape."""
    shape = SHAPES[size]
    return ModelConfig(
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        num_key_value_heads=shape.num_key_value_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.intermediate_size,
        vocab_size=shape.vocab_size,
        max_position_embeddings=shape.max_position_embeddings,
        rms_norm_eps=1e-6,
        rope_theta=1e6,
    )


def operations(config: ModelConfig, num_tokens: float) -> float:
    """Of one input: the linear layers, as the engine runs them, and attention."""
    linear = linear_operations(config, 1) - linear_operations(config, 0)
    # Causal, so half of both products, of queries and keys and of weights and values; the last has one query.
    attention = 2 * (config.num_hidden_layers - 1) * config.q_size * num_tokens**2
    return linear * num_tokens + linear_operations(config, 0) + attention


def batch_seconds(device: Device, config: ModelConfig, lengths: Sequence[float]) -> float:
    """A batch's operations, or the reading of every weight once, and what each batch takes anyway."""
    computing = sum(operations(config, length) for length in lengths) / device.flops / device.share
    weights = 2.0 * (config.num_parameters - config.vocab_size * config.hidden_size)
    return device.fixed_seconds + max(computing, weights / device.bytes_per_second)


def latencies(
    device: Device,
    config: ModelConfig,
    lengths: Sequence[float],
    arrivals: Sequence[float],
    num_replicas: int = 1,
    *,
    seed: int = 0,
) -> "np.ndarray[Any, Any]":
    """Seconds from each arrival (in order) until its batch is done.

    An arrival goes to the shorter queue of two replicas drawn at random, as with Ray Serve.
    """
    random = np.random.default_rng(seed)
    queues: list[deque[int]] = [deque() for _ in range(num_replicas)]
    running = [0] * num_replicas  # inputs
    done = np.zeros(len(arrivals))
    ends: list[tuple[float, int]] = []  # of the batches that run, and whose

    def begin(replica: int, now: float) -> None:
        batch = list(_next_batch(queues[replica], lengths, device.batch_tokens))
        running[replica] = len(batch)
        if batch:
            end = now + batch_seconds(device, config, [lengths[each] for each in batch])
            done[batch] = end
            heapq.heappush(ends, (end, replica))

    for index, now in enumerate(arrivals):
        while ends and ends[0][0] <= now:
            end, replica = heapq.heappop(ends)
            begin(replica, end)
        some = random.integers(num_replicas, size=2)
        replica = int(min(some, key=lambda each: len(queues[each]) + running[each]))
        queues[replica].append(index)
        if not running[replica]:
            begin(replica, now)
    while ends:
        end, replica = heapq.heappop(ends)
        begin(replica, end)
    done -= np.asarray(arrivals)
    return done


def _next_batch(queue: deque[int], lengths: Sequence[float], batch_tokens: int) -> Iterator[int]:
    num_tokens = 0.0
    for _ in range(_MOST_SEQUENCES):
        if not queue or (num_tokens and num_tokens + lengths[queue[0]] > batch_tokens):
            return
        num_tokens += lengths[queue[0]]
        yield queue.popleft()


def check() -> None:
    """Tokens a second on processors, with one share for all, beside those of RESULTS.md."""
    config = model("0.6B")
    rows = []
    for run in MEASURED:
        per_input = operations(config, run.mean_tokens)
        predicted = _CPU_SHARE * run.gemm_rate * run.mean_tokens / per_input
        rows.append(
            {
                "run": run.name,
                "measured tokens/s": run.tokens_per_second,
                "predicted": predicted,
                "ratio": predicted / run.tokens_per_second,
            }
        )
    report("The model beside what was measured", rows, {"benchmark": "capacity", "table": "check"})


def bulk(document_tokens: int) -> None:
    """Device hours to embed a corpus; they divide by the number of devices."""
    rows = []
    for size in ("0.6B", "4B", "8B"):
        config = model(size)
        for device in GPUS:
            inputs = max(1, device.batch_tokens // document_tokens)
            seconds = batch_seconds(device, config, [document_tokens] * inputs) / inputs
            row: dict[str, object] = {
                "model": size,
                "device (assumed)": device.name,
                "tokens/s": document_tokens / seconds,
            }
            row |= {f"{count:.0e} (hours)": count * seconds / 3600 for count in DOCUMENTS}
            rows.append(row)
    title = f"Documents of {document_tokens} tokens"
    report(title, rows, {"benchmark": "capacity", "table": "bulk", "tokens": document_tokens})


def storage() -> None:
    """Vectors alone: no index, no text, no copies."""
    rows = [
        {
            "dimensions": dimensions,
            "encoding": encoding,
            **{f"{count:.0e} (GB)": count * dimensions * size / 1e9 for count in DOCUMENTS},
        }
        for dimensions in (4096, 2560, 1024, 512, 256)
        for encoding, size in ENCODINGS.items()
    ]
    report("Storage", rows, {"benchmark": "capacity", "table": "storage"})


class Queries(NamedTuple):
    """What is asked for, and how soon."""

    num_tokens: int  # of each
    p99: float  # seconds
    seed: int


def online(queries: Queries) -> None:
    """Replicas for so many queries a second, each of which is one request."""
    rows = []
    for size in ("0.6B", "4B", "8B"):
        for device in GPUS:
            row: dict[str, object] = {"model": size, "device (assumed)": device.name}
            for rate in QUERIES_PER_SECOND:
                row[f"{rate:,}/s"] = replicas(device, model(size), queries, rate)
            rows.append(row)
    title = (
        f"Replicas for queries of {queries.num_tokens} tokens, p99 in the replica at most "
        f"{1e3 * queries.p99:g} ms"
    )
    report(title, rows, {"benchmark": "capacity", "table": "online", **queries._asdict()})


def replicas(device: Device, config: ModelConfig, queries: Queries, rate: float) -> int | str:
    """The fewest that keep to the p99; up to 32 are simulated together, more as groups of 32."""
    for number in _numbers():
        together = min(number, _GROUP)
        if _keeps(device, config, queries, rate * together / number, together):
            return number
    return "none"


def _numbers() -> Iterator[int]:
    """Each up to a group, and then in steps of a twentieth."""
    yield from range(1, _GROUP + 1)
    number = _GROUP
    while number < _MOST_REPLICAS:
        number = math.ceil(number * 1.05)
        yield number


def _keeps(
    device: Device, config: ModelConfig, queries: Queries, rate: float, num_replicas: int
) -> bool:
    num_tokens = queries.num_tokens
    most = _most_a_batch(device, num_tokens)
    # What cannot even be computed in time need not be simulated.
    if rate / num_replicas > most / batch_seconds(device, config, [num_tokens] * most):
        return False
    random = np.random.default_rng(queries.seed)
    arrivals = np.cumsum(random.exponential(1 / rate, _ARRIVALS)).tolist()
    lengths = [float(num_tokens)] * _ARRIVALS
    found = latencies(device, config, lengths, arrivals, num_replicas, seed=queries.seed)
    return bool(np.quantile(found, 0.99) <= queries.p99)


def _most_a_batch(device: Device, num_tokens: int) -> int:
    return min(_MOST_SEQUENCES, max(1, device.batch_tokens // num_tokens))


def network(query_tokens: int) -> None:
    """Bits a second on the wire, headers left out."""
    rows: list[dict[str, object]] = [
        {
            "of each query": "the question",
            "bytes": query_tokens * _TEXT_BYTES_PER_TOKEN,
            **_gigabits(query_tokens * _TEXT_BYTES_PER_TOKEN),
        }
    ]
    rows += [
        {
            "of each query": f"the answer: {dimensions} dimensions, {encoding}",
            "bytes": dimensions * size,
            **_gigabits(dimensions * size),
        }
        for dimensions in (1024, 256)
        for encoding, size in WIRE.items()
    ]
    report("Network", rows, {"benchmark": "capacity", "table": "network"})


def _gigabits(num_bytes: float) -> dict[str, float]:
    return {f"{rate:,}/s (Gbit/s)": 8e-9 * rate * num_bytes for rate in QUERIES_PER_SECOND}


if __name__ == "__main__":
    main()
