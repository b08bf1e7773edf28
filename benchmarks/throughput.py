"""Documents a second and a query's latency: hexgrid in each precision, and its peers, in one run.

The same texts and weights, all taking turns, and other texts in each round, so that no cache helps.
sentence-transformers (float32) is tried at each batch size once; its best one takes part. The peers of peers/
get token ids and need not tokenize. The queries share an instruction and nothing else: whoever keeps its keys
and values computes the rest.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from peers.process import PEERS, Running, running
from workload import checkpoint, english_texts, queries, report

from hexgrid.config import EngineConfig
from hexgrid.encoding import Vectors
from hexgrid.engine.served_model import ServedModel, open_model
from hexgrid.metrics import Metrics
from hexgrid.model.checkpoint import open_checkpoint
from hexgrid.model.gemm import gemm_rate, linear_operations
from hexgrid.model.loading import pick_device
from hexgrid.model.pooling import finish
from hexgrid.tokenizer import Tokenizer

PRECISIONS: dict[str, dict[str, Any]] = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "int8": {"quantization": "int8"},
}
BASE = "sentence-transformers, float32"
BATCH_SIZES = (4, 8, 16, 32)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="default: a random one of the 0.6B shape")
    parser.add_argument(
        "--layers", type=int, help="fewer layers for the random one, to try the script"
    )
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--precision", choices=PRECISIONS, action="append", help="repeat; default: all of them"
    )
    parser.add_argument(
        "--peers", choices=PEERS, nargs="*", default=list(PEERS), help="default: all of them"
    )
    arguments = parser.parse_args()
    with (
        checkpoint(arguments.checkpoint, "0.6B", num_layers=arguments.layers) as directory,
        ExitStack() as stack,
    ):
        models = {
            name: stack.enter_context(opened(directory, name))
            for name in arguments.precision or PRECISIONS
        }
        tokenizer = next(iter(models.values())).tokenizer
        contenders = {
            f"hexgrid, {name}": Contender(name, hexgrid_embed(model))
            for name, model in models.items()
        }
        for name in arguments.peers:
            peer = stack.enter_context(running(name, directory))
            embed = peer_embed(peer, tokenizer)
            contenders[PEERS[name].title] = Contender(PEERS[name].precision, embed)
        instruction = next(iter(models.values())).prompts.get("query", "")
        compare(directory, contenders, tokenizer, instruction, arguments)


@contextmanager
def opened(directory: Path, precision: str) -> Iterator[ServedModel]:
    """hexgrid in one precision, with the quantised weights beside the checkpoint."""
    config = EngineConfig(
        **PRECISIONS[precision], result_cache_bytes=0, quantized_dir=directory.parent / "quantized"
    )
    model = open_model(["hexgrid"], directory, config, Metrics())
    try:
        yield model
    finally:
        model.engine.close()


def compare(
    directory: Path,
    contenders: dict[str, Contender],
    tokenizer: Tokenizer,
    instruction: str,
    arguments: argparse.Namespace,
) -> None:
    """Run all over the same texts and print the table."""
    texts = english_texts(tokenizer, arguments.texts)
    asked = queries(instruction)
    theirs = sentence_transformers_embed(directory)
    tried = {size: theirs(size)(texts) for size in BATCH_SIZES}
    best = min(tried, key=lambda size: tried[size].seconds)
    cosines = agreements(contenders, texts, tried[best].vectors)
    runners = {**contenders, BASE: Contender("float32", theirs(best))}
    config = open_checkpoint(directory).config
    tokens, operations = [], []  # of each round
    documents: dict[str, list[float]] = {name: [] for name in runners}
    latencies: dict[str, list[float]] = {name: [] for name in runners}
    for number in range(arguments.rounds):
        texts = english_texts(tokenizer, arguments.texts, seed=100 + number)
        some = [next(asked) for _ in range(QUERIES)]
        lengths = [len(ids) for ids in tokenizer.encode(texts).token_ids]
        tokens.append(sum(lengths))
        operations.append(sum(linear_operations(config, length) for length in lengths))
        for name, runner in runners.items():
            documents[name].append(runner.embed(texts).seconds)
            latencies[name] += [runner.embed([query]).seconds for query in some]

    rows = []
    for name, runner in runners.items():
        rows.append({
            "engine": name,
            "tokens/s": ratio(tokens, documents[name]),
            "times sentence-transformers": ratio(documents[BASE], documents[name]),
            "runs (s)": " ".join(f"{t:.1f}" for t in documents[name]),
            **share_of_machine(runner.precision, ratio(operations, documents[name])),
            "query p50 (ms)": 1000 * statistics.median(latencies[name]),
            "cosine, mean": float(cosines[name].mean()) if name in cosines else 1.0,
            "cosine, least": float(cosines[name].min()) if name in cosines else 1.0,
        })  # fmt: skip
    others = ", ".join(f"{size}: {each.seconds:.1f} s" for size, each in tried.items())
    (query,) = tokenizer.encode([next(asked)]).token_ids
    report(
        f"{arguments.texts} texts a round, {sum(tokens) / len(tokens):.0f} tokens; sentence-transformers at "
        f"batch size {best} (once each: {others}); a query has {len(query)} tokens or so, the "
        "instruction's included",
        rows,
        {"benchmark": "throughput", "tokens": tokens, "best_batch_size": best},
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


def share_of_machine(precision: str, operations_per_second: float) -> dict[str, Any]:
    """Beside the rate of products alone, where hexgrid computes in this precision."""
    if precision not in PRECISIONS:
        return {"GEMM rate (GOP/s)": "-", "share of it": "-"}
    rate = gemm_rate(pick_device("auto"), precision)
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


def sentence_transformers_embed(directory: Path) -> Callable[[int], Embed]:
    """sentence-transformers as its users call it, at a given batch size."""
    from sentence_transformers import SentenceTransformer

    peer = SentenceTransformer(str(directory), device="cpu", model_kwargs={"dtype": torch.float32})

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
