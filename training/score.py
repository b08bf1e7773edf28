"""Scores of a checkpoint, through hexgrid's own engine."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hexgrid.cli.models import opened, query_prompt
from hexgrid.config import EngineConfig
from hexgrid.encoding import Vectors
from hexgrid.evaluation.datasets import RetrievalSet, read_sets
from hexgrid.evaluation.local import embed_with
from hexgrid.evaluation.report import as_data
from hexgrid.evaluation.run import Embed, evaluate
from hexgrid.model import pooling

WIDTHS = (256, 128, 64)
MEASURES = ("spearman", "recall@1", "ndcg@10")
LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
_LONG_TEXTS = 32  # of each length
_CHARS_PER_TOKEN = 4.5


def score(checkpoint: Path, data: Path) -> dict[str, float]:
    """Score by name: `set/measure@width`; with `/instructed` behind it, under the default instruction."""
    sets = read_sets(data)
    scores: dict[str, float] = {}
    with opened(str(checkpoint), EngineConfig(dtype="float32")) as served:
        for prompt in ("", query_prompt(served, None)):
            widths = WIDTHS[:1] if prompt else WIDTHS
            report = evaluate(sets, embed_with(served), dimensions=widths, query_prompt=prompt)
            for result in as_data(report)["results"]:
                for measure in MEASURES:
                    if measure in result:
                        name = f"{result['set']}/{measure}@{result['dimensions']}"
                        scores[name + ("/instructed" if prompt else "")] = result[measure]
    return scores


def score_lengths(checkpoint: Path, data: Path) -> dict[int, tuple[float, float]]:
    """For texts of about so many tokens, of paragraphs end to end: what is left of their paragraphs.

    The mean cosine of a text's vector with the mean of its paragraphs' vectors, and the share of texts that
    this mean finds first among all of their length.
    """
    paragraphs = [
        text
        for each in read_sets(data)
        if isinstance(each, RetrievalSet)
        for text in each.paragraphs
    ]
    with opened(str(checkpoint), EngineConfig(dtype="float32")) as served:
        embed = embed_with(served)
        return {length: _one_length(embed, paragraphs, length) for length in LENGTHS}


def _one_length(embed: Embed, paragraphs: list[str], length: int) -> tuple[float, float]:
    groups = list(_groups(paragraphs, int(length * _CHARS_PER_TOKEN)))
    whole = _unit(embed(["\n".join(group) for group in groups]).vectors)
    parts = np.stack([_unit(embed(group).vectors).mean(axis=0) for group in groups])
    cosines = _unit(parts) @ whole.T
    found = cosines.argmax(axis=1) == np.arange(len(groups))
    return float(cosines.diagonal().mean()), float(found.mean())


def _groups(paragraphs: list[str], num_chars: int) -> Iterator[list[str]]:
    """Paragraphs in runs of `num_chars` characters or a little more, taken from all over the list."""
    rng = np.random.default_rng(0)
    for _ in range(_LONG_TEXTS):
        group: list[str] = []
        while sum(map(len, group)) < num_chars:
            group.append(paragraphs[rng.integers(len(paragraphs))])
        yield group


def _unit(vectors: Vectors) -> Vectors:
    return pooling.finish(vectors, dimensions=None, normalize=True)
