"""Documents a second and a query's latency: hexgrid in each precision, and its peers, in one run.

The same texts and weights, all taking turns, and other texts in each round, so that no cache helps.
sentence-transformers (float32) is tried at each batch size once; its best one takes part. The peers of peers/
get token ids and need not tokenize. The queries share an instruction and nothing else: whoever keeps its keys
and values computes the rest.

With --device cuda: texts of 512 tokens, bfloat16 with CUDA graphs and without, and sentence-transformers in
bfloat16.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from peers.process import PEERS, Running, running
from workload import checkpoint, english_texts, queries, report

from hexgrid.config import Device, EngineConfig
from hexgrid.encoding import Vectors
from hexgrid.engine.native import open_model
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.model.gemm import gemm_rate, linear_operations
from hexgrid.model.pooling import finish
from hexgrid.tokenizer import Tokenizer

# Settings of hexgrid by the name of a row.
PRECISIONS: dict[str, dict[str, Any]] = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "int8": {"quantization": "int8"},
}
ON_CUDA: dict[str, dict[str, Any]] = {
    "bfloat16": {"dtype": "bfloat16"},
    "bfloat16-eager": {"dtype": "bfloat16", "enforce_eager": True},
}
BASE = "sentence-transformers"
# No speed counts unless the vectors agree: the least cosine to sentence-transformers'.
LEAST_COSINE = {"float32": 0.999999, "bfloat16": 0.999, "int8": 0.98, "Q8_0": 0.98}
QUERIES = 10  # a round


class Timed(NamedTuple):
    """The unit vectors [B, H] of some texts, and how long they took."""

    vectors: Vectors
    seconds: float


Embed = Callable[[list[str]], Timed]


class Contender(NamedTuple):
    """Who takes part."""

    precision: str
    embed: Embed


@dataclass(frozen=True)
class Setup:
    """What is run on a kind of device, unless the command line says otherwise."""

    precisions: dict[str, dict[str, Any]]
    peers: tuple[str, ...]
    num_texts: int  # a round
    num_tokens: int | None  # of each text; None: 8 to 400
    base_precision: str  # of sentence-transformers
    base_batch_sizes: tuple[int, ...]
    num_rounds: int = 5


SETUPS: dict[Device, Setup] = {
    "cpu": Setup(PRECISIONS, tuple(PEERS), 96, None, "float32", (4, 8, 16, 32)),
    "cuda": Setup(ON_CUDA, (), 2048, 512, "bfloat16", (16, 32, 64, 128)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="default: a random one of the 0.6B shape")
    parser.add_argument(
        "--layers", type=int, help="fewer layers for the random one, to try the script"
    )
    parser.add_argument("--device", choices=SETUPS, default="cpu")
    parser.add_argument("--texts", type=int, help="default: 96, on CUDA 2048")
    parser.add_argument(
        "--tokens", type=int, help="of each text; default: 8 to 400, mean 80; on CUDA 512"
    )
    parser.add_argument("--rounds", type=int, help="default: 5")
    parser.add_argument(
        "--precision",
        choices={**PRECISIONS, **ON_CUDA},
        action="append",
        help="repeat; default: all of the device",
    )
    parser.add_argument(
        "--peers", choices=PEERS, nargs="*", help="default: all of them, on CUDA none"
    )
    arguments = parser.parse_args()
    setup = SETUPS[arguments.device]
    setup = replace(
        setup,
        peers=setup.peers if arguments.peers is None else tuple(arguments.peers),
        num_texts=arguments.texts or setup.num_texts,
        num_tokens=arguments.tokens or setup.num_tokens,
        num_rounds=arguments.rounds or setup.num_rounds,
    )
    with (
        checkpoint(arguments.checkpoint, "0.6B", num_layers=arguments.layers) as directory,
        ExitStack() as stack,
    ):
        models = {
            name: stack.enter_context(opened(directory, name, arguments.device))
            for name in arguments.precision or setup.precisions
        }
        some = next(iter(models.values()))
        contenders = {
            f"hexgrid, {name}": Contender(model.precision, hexgrid_embed(model))
            for name, model in models.items()
        }
        for name in setup.peers:
            peer = stack.enter_context(running(name, directory))
            embed = peer_embed(peer, some.tokenizer)
            contenders[PEERS[name].title] = Contender(PEERS[name].precision, embed)
        compare(directory, contenders, some, setup, arguments.device)


@contextmanager
def opened(directory: Path, precision: str, device: Device = "auto") -> Iterator[ServedModel]:
    """hexgrid in one precision, with the quantised weights beside the checkpoint."""
    config = EngineConfig(
        **{**PRECISIONS, **ON_CUDA}[precision],
        device=device,
        result_cache_bytes=0,
        quantized_dir=directory.parent / "quantized",
    )
    model = open_model(["hexgrid"], directory, config, Metrics())
    try:
        yield model
    finally:
        model.engine.close()


def compare(
    directory: Path,
    contenders: dict[str, Contender],
    model: ServedModel,
    setup: Setup,
    device: Device,
) -> None:
    """Run all over the same texts and print the table."""
    alike = {} if (n := setup.num_tokens) is None else {"mean": n, "low": n, "high": n}
    texts = english_texts(model.tokenizer, setup.num_texts, **alike)
    asked = queries(model.prompts.get("query", ""))
    theirs = sentence_transformers_embed(directory, device, setup.base_precision)
    tried = {size: theirs(size)(texts) for size in setup.base_batch_sizes}
    best = min(tried, key=lambda size: tried[size].seconds)
    cosines = agreements(contenders, texts, tried[best].vectors)
    base = f"{BASE}, {setup.base_precision}"
    runners = {**contenders, base: Contender(setup.base_precision, theirs(best))}
    tokens, operations = [], []  # of each round
    documents: dict[str, list[float]] = {name: [] for name in runners}
    latencies: dict[str, list[float]] = {name: [] for name in runners}
    for number in range(setup.num_rounds):
        texts = english_texts(model.tokenizer, setup.num_texts, seed=100 + number, **alike)
        some = [next(asked) for _ in range(QUERIES)]
        lengths = [len(ids) for ids in model.tokenizer.encode(texts).token_ids]
        tokens.append(sum(lengths))
        operations.append(sum(linear_operations(model.config, length) for length in lengths))
        for name, runner in runners.items():
            documents[name].append(runner.embed(texts).seconds)
            latencies[name] += [runner.embed([query]).seconds for query in some]

    rows = []
    for name, runner in runners.items():
        rows.append({
            "engine": name,
            "tokens/s": ratio(tokens, documents[name]),
            f"times {BASE}": ratio(documents[base], documents[name]),
            "runs (s)": " ".join(f"{t:.3g}" for t in documents[name]),
            **share_of_machine(device, runner.precision, ratio(operations, documents[name])),
            "query p50 (ms)": 1000 * statistics.median(latencies[name]),
            "cosine, mean": float(cosines[name].mean()) if name in cosines else 1.0,
            "cosine, least": float(cosines[name].min()) if name in cosines else 1.0,
        })  # fmt: skip
    others = ", ".join(f"{size}: {each.seconds:.1f} s" for size, each in tried.items())
    (query,) = model.tokenizer.encode([next(asked)]).token_ids
    report(
        f"{setup.num_texts} texts a round, {sum(tokens) / len(tokens):.0f} tokens; {BASE} at batch size "
        f"{best} (once each: {others}); a query has {len(query)} tokens or so, the instruction's included",
        rows,
        {"benchmark": "throughput", "device": device, "tokens": tokens, "best_batch_size": best},
    )


def agreements(
    contenders: dict[str, Contender], texts: list[str], vectors: Vectors
) -> dict[str, Vectors]:
    """The cosine of each text's vector with sentence-transformers', by contender.

    Raises:
        SystemExit: somebody's vectors are not those of the checkpoint.
    """
    cosines = {}
    for name, contender in contenders.items():
        cosines[name] = np.einsum("nh,nh->n", contender.embed(texts).vectors, vectors)
        least = cosines[name].min()
        if not least >= LEAST_COSINE[contender.precision]:
            raise SystemExit(f"{name}: vectors differ, least cosine {least:.6f}")
    return cosines


def share_of_machine(
    device: Device, precision: str, operations_per_second: float
) -> dict[str, Any]:
    """Beside the rate of products alone, where hexgrid computes in this precision."""
    if precision not in PRECISIONS:
        return {"GEMM rate (GOP/s)": "-", "share of it": "-"}
    rate = gemm_rate(torch.device(device), precision)
    return {"GEMM rate (GOP/s)": rate / 1e9, "share of it": operations_per_second / rate}


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """The median over the rounds."""
    return statistics.median(a / b for a, b in zip(theirs, ours, strict=True))


def hexgrid_embed(model: ServedModel) -> Embed:
    """hexgrid in process: tokenizer, scheduler, engine, pooling."""

    def embed(texts: list[str]) -> Vectors:
        hidden = model.engine.submit(model.tokenizer.encode(texts).token_ids).result()
        return finish(hidden, dimensions=None, normalize=True)

    return timed(embed)


def peer_embed(peer: Running, tokenizer: Tokenizer) -> Embed:
    """A peer in its own process, by its own clock."""

    def embed(texts: list[str]) -> Timed:
        return Timed(*peer.embed(tokenizer.encode(texts).token_ids))

    return embed


def sentence_transformers_embed(
    directory: Path, device: Device = "cpu", precision: str = "float32"
) -> Callable[[int], Embed]:
    """sentence-transformers as its users call it, at a given batch size."""
    from sentence_transformers import SentenceTransformer

    dtype: torch.dtype = getattr(torch, precision)
    peer = SentenceTransformer(str(directory), device=device, model_kwargs={"dtype": dtype})

    def at(batch_size: int) -> Embed:
        def embed(texts: list[str]) -> Vectors:
            vectors: Vectors = peer.encode(
                texts, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False
            )
            return vectors

        return timed(embed)

    return at


def timed(embed: Callable[[list[str]], Vectors]) -> Embed:
    """The same, with its wall time."""

    def with_time(texts: list[str]) -> Timed:
        start = perf_counter()
        return Timed(embed(texts), perf_counter() - start)

    return with_time


if __name__ == "__main__":
    main()
