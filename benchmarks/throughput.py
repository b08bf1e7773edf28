"""Documents a second: hexgrid against sentence-transformers, float32, the same texts and weights, one run.

sentence-transformers is tried at each batch size once; its best one then takes turns with hexgrid.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from workload import checkpoint, english_texts, gemm_rate, linear_flops, report

from hexgrid.config import EngineConfig
from hexgrid.encoding import Vectors
from hexgrid.engine.served_model import ServedModel, open_model
from hexgrid.metrics import Metrics
from hexgrid.model.checkpoint import open_checkpoint
from hexgrid.model.pooling import finish

BATCH_SIZES = (4, 8, 16, 32)
# No speed counts unless the vectors agree.
LARGEST_DIFFERENCE = 1e-4

Embed = Callable[[list[str]], Vectors]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="default: a random one of the 0.6B shape")
    parser.add_argument(
        "--layers", type=int, help="fewer layers for the random one, to try the script"
    )
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with checkpoint(arguments.checkpoint, "0.6B", num_layers=arguments.layers) as directory:
        compare(directory, arguments.texts, arguments.rounds)


def compare(directory: Path, num_texts: int, rounds: int) -> None:
    """Run both over the same texts and print the table."""
    model = open_model(
        ["hexgrid"], directory, EngineConfig(dtype="float32", result_cache_bytes=0), Metrics()
    )
    texts = english_texts(model.tokenizer, num_texts)
    lengths = [len(ids) for ids in model.tokenizer.encode(texts).token_ids]
    ours = hexgrid_embed(model)
    theirs = sentence_transformers_embed(directory)
    difference = float(np.abs(ours(texts[:8]) - theirs(8)(texts[:8])).max())
    if difference > LARGEST_DIFFERENCE:
        raise SystemExit(f"vectors differ by {difference:.2g}: nothing to compare")

    tried = {size: seconds(theirs(size), texts) for size in BATCH_SIZES}
    best = min(tried, key=tried.__getitem__)
    runs: dict[str, list[float]] = {"hexgrid": [], "sentence-transformers": []}
    gemm = []
    for _ in range(rounds):
        gemm.append(gemm_rate())
        runs["hexgrid"].append(seconds(ours, texts))
        runs["sentence-transformers"].append(seconds(theirs(best), texts))
    model.engine.close()

    tokens = sum(lengths)
    rate = statistics.median(gemm)
    flops = linear_flops(open_checkpoint(directory).config, lengths)
    medians = {name: statistics.median(times) for name, times in runs.items()}
    ratios = [b / a for a, b in zip(*runs.values(), strict=True)]
    rows = [
        {
            "server": name,
            "tokens/s": tokens / medians[name],
            "runs (s)": " ".join(f"{t:.1f}" for t in runs[name]),
            "share of GEMM rate": flops / medians[name] / rate,
        }
        for name in runs
    ]
    report(
        f"{num_texts} texts of {min(lengths)} to {max(lengths)} tokens (mean {tokens / num_texts:.0f}), "
        f"float32; sentence-transformers at batch size {best} "
        f"(others once: {', '.join(f'{s}: {tokens / t:.0f} tok/s' for s, t in tried.items())}); "
        f"GEMM rate {rate / 1e9:.0f} GFLOP/s",
        rows,
        {
            "benchmark": "throughput",
            "tokens": tokens,
            "ratio": statistics.median(ratios),
            "ratios": ratios,
            "gemm_gflops": rate / 1e9,
            "best_batch_size": best,
            "largest_difference": difference,
        },
    )


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
