"""hexgrid verify: published numbers against what this machine computes with a real checkpoint."""

import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from hexgrid.cli.options import config_options
from hexgrid.config import CACHE_SETTINGS, EngineConfig
from hexgrid.config.sources import load
from hexgrid.errors import CheckpointError

if TYPE_CHECKING:
    from hexgrid.encoding import Vectors
    from hexgrid.engine.served_model import ServedModel
    from hexgrid.reference import Published

# By hidden_size and number of layers: what the published numbers belong to.
_SIZES = {(1024, 28): "0.6B", (2560, 36): "4B", (4096, 36): "8B"}
# Qwen's own two engines differ by up to 0.0026 from each other in 16 bits.
_TOLERANCE = {"float32": 0.001, "bfloat16": 0.003, "float16": 0.003, "int8": 0.02}
# One input alone, among others and long: the same vector. Cosine distance.
_SELF_TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-4, "float16": 1e-4, "int8": 1e-3}
_LONG_TOKENS = 2048
# Includes the text on which 16-bit floats overflow in the 8B model.
_COMPANY = ("import numpy as np", "a", "Gravity keeps the planets in their orbits. " * 40, "")


class Check(NamedTuple):
    """One comparison; `off` is how far `measured` is from `published`."""

    name: str
    published: str
    measured: str
    off: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.off <= self.tolerance  # false for NaN


@click.command()
@click.argument("model")
@config_options(EngineConfig, without=CACHE_SETTINGS)
def command(model: str, **flags: Any) -> None:
    """Compare MODEL, a real Qwen3-Embedding checkpoint, with published vectors and similarities.

    Every vector is computed anew. Prints each comparison and exits with 1 when one is off.
    """
    # From the cache, an input alone would be equal to itself in company whatever the model did.
    config = load(EngineConfig, flags, os.environ).without_caches()
    from hexgrid.cli.models import opened
    from hexgrid.reference import load_published

    with opened(model, config) as served:
        size = size_of(served)
        checks = [*published_checks(served, size, load_published()), *self_checks(served)]
    for line in table(checks):
        click.echo(line)
    failed = sum(not check.passed for check in checks)
    verdict = (
        f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks passed"
    )
    click.echo(f"{served.name} as Qwen3-Embedding-{size} in {served.precision}: {verdict}")
    sys.exit(1 if failed else 0)


def size_of(model: "ServedModel") -> str:
    """Which of the three models this is, by its shape.

    Raises:
        CheckpointError: none of them.
    """
    shape = (model.embedding_dimension, model.config.num_hidden_layers)
    if shape not in _SIZES:
        raise CheckpointError(
            f"Published numbers exist for Qwen3-Embedding {', '.join(_SIZES.values())}; {model.name} has "
            f"{shape[0]} dimensions and {shape[1]} layers, which is none of them. "
            "`hexgrid eval` scores any model on data of your own"
        )
    return _SIZES[shape]


def published_checks(model: "ServedModel", size: str, published: "Published") -> Iterator[Check]:
    """Every published number of that size against ours."""
    ids = published.token_ids
    (ours,) = model.tokenizer.encode([ids.text]).token_ids
    off = 0.0 if ours == ids.ids else float("inf")
    yield Check("token ids of a query", f"{len(ids.ids)} ids", f"{len(ours)} ids", off, 0.0)
    tolerance = _TOLERANCE[model.precision]
    for table_ in published.similarities:
        if table_.size == size:
            scores = _vectors(model, table_.queries) @ _vectors(model, table_.documents).T
            for i, row in enumerate(table_.scores):
                for j, score in enumerate(row):
                    yield Check(
                        f"similarity, query {i}, document {j} ({table_.source})",
                        f"{score:.4f}",
                        f"{scores[i, j]:.4f}",
                        abs(float(scores[i, j]) - score),
                        max(tolerance, table_.tolerance or 0.0),
                    )
    for vector in published.vectors:
        if vector.size == size:
            (measured,) = _vectors(model, [vector.text])
            part = measured[vector.first : vector.first + len(vector.values)]
            yield Check(
                f"{len(vector.values)} values of {vector.text[:24]!r}... ({vector.source})",
                f"{vector.values[0]:.5f}...",
                f"{part[0]:.5f}...",
                max(abs(float(a) - b) for a, b in zip(part, vector.values, strict=True)),
                tolerance,
            )


def self_checks(model: "ServedModel") -> Iterator[Check]:
    """The same inputs alone and in company, a long one among them."""
    long_text = "word " * (min(_LONG_TOKENS, model.max_model_len) - 2)
    texts = [*_COMPANY, long_text]
    together = _vectors(model, texts)
    for text, batched in zip(texts, together, strict=True):
        (alone,) = _vectors(model, [text])
        (num_tokens,) = map(len, model.tokenizer.encode([text]).token_ids)
        yield Check(
            f"alone = in a batch, {num_tokens} tokens",
            "cosine 1",
            f"cosine {float(alone @ batched):.7f}",
            abs(1.0 - float(alone.astype(float) @ batched.astype(float))),
            _SELF_TOLERANCE[model.precision],
        )


def table(checks: Sequence[Check]) -> Iterator[str]:
    """The checks as aligned lines."""
    width = max(len(check.name) for check in checks)
    yield f"{'':6}{'check':{width}}  {'published':>12} {'measured':>18} {'off by':>9} {'allowed':>8}"
    for check in checks:
        mark = "ok" if check.passed else "OFF"
        yield (
            f"{mark:6}{check.name:{width}}  {check.published:>12} {check.measured:>18} "
            f"{check.off:9.2g} {check.tolerance:8.2g}"
        )


def _vectors(model: "ServedModel", texts: Sequence[str]) -> "Vectors":
    from hexgrid.cli.models import embed

    return embed(model, list(texts)).vectors
