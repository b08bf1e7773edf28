"""Documents a second and a query's latency: hexgrid in each precision, sentence-transformers in float32.

The same texts and weights in one run, all taking turns. sentence-transformers is tried at each batch size
once; its best one takes part. hexgrid computes every vector anew, but the query's instruction stays in its
prefix cache.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from workload import checkpoint, english_texts, report

from hexgrid.config import EngineConfig
from hexgrid.encoding import Vectors
from hexgrid.engine.served_model import ServedModel, open_model
from hexgrid.metrics import Metrics
from hexgrid.model.checkpoint import open_checkpoint
from hexgrid.model.gemm import gemm_rate, linear_operations
from hexgrid.model.loading import pick_device
from hexgrid.model.pooling import finish

PRECISIONS: dict[str, dict[str, Any]] = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "int8": {"quantization": "int8"},
}
PEER = "sentence-transformers"
BATCH_SIZES = (4, 8, 16, 32)
# No speed counts unless the vectors agree: the least cosine to sentence-transformers'.
LEAST_COSINE = {"float32": 0.999999, "bfloat16": 0.999, "int8": 0.98}
QUERY = "What is the capital of China?"
QUERIES = 10  # a round

Embed = Callable[[list[str]], Vectors]


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
    arguments = parser.parse_args()
    with (
        checkpoint(arguments.checkpoint, "0.6B", num_layers=arguments.layers) as directory,
        ExitStack() as stack,
    ):
        models = {
            name: stack.enter_context(opened(directory, name))
            for name in arguments.precision or PRECISIONS
        }
        compare(directory, models, arguments.texts, arguments.rounds)


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


def compare(directory: Path, models: dict[str, ServedModel], num_texts: int, rounds: int) -> None:
    """Run all over the same texts and print the table."""
    model = next(iter(models.values()))
    texts = english_texts(model.tokenizer, num_texts)
    lengths = [len(ids) for ids in model.tokenizer.encode(texts).token_ids]
    query = model.prompts.get("query", "") + QUERY
    theirs = sentence_transformers_embed(directory)
    ours = {name: hexgrid_embed(each) for name, each in models.items()}
    cosines = {name: agreement(embed(texts), theirs(8)(texts)) for name, embed in ours.items()}
    for name, cosine in cosines.items():
        if cosine.min() < LEAST_COSINE[name]:
            raise SystemExit(f"{name}: vectors differ, least cosine {cosine.min():.6f}")

    tried = {size: seconds(theirs(size), texts) for size in BATCH_SIZES}
    best = min(tried, key=tried.__getitem__)
    runners = {**ours, PEER: theirs(best)}
    documents: dict[str, list[float]] = {name: [] for name in runners}
    queries: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(rounds):
        for name, embed in runners.items():
            documents[name].append(seconds(embed, texts))
            queries[name] += [seconds(embed, [query]) for _ in range(QUERIES)]

    tokens = sum(lengths)
    operations = sum(
        linear_operations(open_checkpoint(directory).config, length) for length in lengths
    )
    rows = []
    for name in runners:
        rate = gemm_rate(pick_device("auto"), name if name in ours else "float32")
        median = statistics.median(documents[name])
        rows.append({
            "server": f"hexgrid, {name}" if name in ours else f"{PEER}, float32",
            "tokens/s": tokens / median,
            f"times {PEER}": ratio(documents[PEER], documents[name]),
            "runs (s)": " ".join(f"{t:.1f}" for t in documents[name]),
            "GEMM rate (GOP/s)": rate / 1e9,
            "share of it": operations / median / rate,
            "query p50 (ms)": 1000 * statistics.median(queries[name]),
            "cosine, mean": float(cosines[name].mean()) if name in ours else 1.0,
            "cosine, least": float(cosines[name].min()) if name in ours else 1.0,
        })  # fmt: skip
    report(
        f"{num_texts} texts of {min(lengths)} to {max(lengths)} tokens (mean {tokens / num_texts:.0f}); "
        f"{PEER} at batch size {best} "
        f"(others once: {', '.join(f'{s}: {tokens / t:.0f} tok/s' for s, t in tried.items())}); "
        f"the query has {len(model.tokenizer.encode([query]).token_ids[0])} tokens, instruction and all",
        rows,
        {"benchmark": "throughput", "tokens": tokens, "best_batch_size": best},
    )


def agreement(ours: Vectors, theirs: Vectors) -> Vectors:
    """The cosine of each text's two vectors."""
    cosines: Vectors = np.einsum("nh,nh->n", ours, theirs)
    return cosines


def ratio(theirs: list[float], ours: list[float]) -> float:
    """How many times as fast, as the median over the rounds."""
    return statistics.median(a / b for a, b in zip(theirs, ours, strict=True))


def hexgrid_embed(model: ServedModel) -> Embed:
    """hexgrid in process: tokenizer, scheduler, engine, pooling."""

    def embed(texts: list[str]) -> Vectors:
        hidden = model.engine.submit(model.tokenizer.encode(texts).token_ids).result()
        return finish(hidden, dimensions=None, normalize=True)

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

        return embed

    return at


def seconds(embed: Embed, texts: list[str]) -> float:
    """Wall time of one pass."""
    start = perf_counter()
    embed(texts)
    return perf_counter() - start


if __name__ == "__main__":
    main()
