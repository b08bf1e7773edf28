"""hexgrid compare: what a cheaper way to compute vectors costs, on one's own texts and checkpoint."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from hexgrid.cli.options import config_options
from hexgrid.cli.progress import progress
from hexgrid.config import CACHE_SETTINGS, Dtype, EngineConfig
from hexgrid.config.sources import load
from hexgrid.errors import ConfigError

if TYPE_CHECKING:
    from hexgrid.encoding import Vectors
    from hexgrid.evaluation.agreement import Agreement

_FEWEST = 2
_DTYPES = ("float32", "bfloat16", "float16")


class _Text(NamedTuple):
    """A line of the file."""

    line: int  # from 1
    text: str


class _Embedded(NamedTuple):
    """Unit vectors [N, H], and how they were computed."""

    name: str
    precision: str
    vectors: "Vectors"


@click.command()
@click.argument("model")
@click.option(
    "--texts",
    "file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="One text a line; empty lines and repeated ones are left out. Take some hundreds that are "
    "like those that you search.",
)
@click.option(
    "--against",
    type=click.Choice(_DTYPES),
    default="float32",
    help="The precision that it is compared with.  [default: float32]",
)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON; the table goes to stderr.")
@config_options(EngineConfig, without=CACHE_SETTINGS)
def command(model: str, file: Path, against: Dtype, as_json: bool, **flags: Any) -> None:
    """Embed the same texts twice, with MODEL as it is set and --against another precision.

    Prints how the cosines of the two vectors of a text are spread, and how many of its ten nearest texts
    are other ones. Input is named by its line.
    """
    # From a cache, vectors would be compared with themselves.
    config = load(EngineConfig, flags, os.environ).without_caches()
    texts = _read(file)
    ours = _embed(model, config, texts, other_than=against)
    theirs = _embed(model, replace(config, dtype=against, quantization="none"), texts)
    from hexgrid.evaluation.agreement import agreement

    found = agreement(ours.vectors, theirs.vectors)
    worst = texts[int(found.cosines.argmin())].line
    title = f"{ours.name}, {ours.precision} against {theirs.precision}: {len(texts)} texts"
    for line in _table(title, found, worst):
        click.echo(line, err=as_json)
    if as_json:
        import orjson

        data = {
            "model": ours.name,
            "precision": ours.precision,
            "against": theirs.precision,
            "num_texts": len(texts),
            "num_neighbours": found.num_neighbours,
            **found.summary(),
            "cosine_min_line": worst,
        }
        click.echo(orjson.dumps(data))


def _read(file: Path) -> list[_Text]:
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--texts {file} cannot be read: {error}") from error
    first_lines: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            first_lines.setdefault(line.removesuffix("\r"), number)
    if len(first_lines) < _FEWEST:
        raise ConfigError(
            f"--texts {file} has {len(first_lines)} different lines with text; at least {_FEWEST} are needed"
        )
    return [_Text(number, text) for text, number in first_lines.items()]


def _embed(
    model: str, config: EngineConfig, texts: list[_Text], *, other_than: str | None = None
) -> _Embedded:
    """The vectors of one way to compute them; the model is closed before the other is loaded."""
    import numpy as np

    from hexgrid.cli.models import opened
    from hexgrid.evaluation.local import embed_with
    from hexgrid.evaluation.run import batches
    from hexgrid.model.pooling import finish

    with opened(model, config) as served:
        if served.precision == other_than:
            raise ConfigError(
                f"--against {other_than}: {served.name} runs in {served.precision} already; "
                "choose another --dtype, or --quantization int8"
            )
        embed = embed_with(served)
        hidden = []
        with progress("Texts", len(texts)) as advance:
            for batch in batches([each.text for each in texts]):
                hidden.append(embed(batch).vectors)
                advance(len(batch))
        vectors = finish(np.concatenate(hidden), dimensions=None, normalize=True)
        return _Embedded(served.name, served.precision, vectors)


def _table(title: str, found: "Agreement", worst: int) -> Iterator[str]:
    s = found.summary()
    yield title
    yield (
        f"cosine of a text's two vectors: mean {s['cosine_mean']:.6f}, median {s['cosine_p50']:.6f}, "
        f"5% below {s['cosine_p5']:.6f}, 1% below {s['cosine_p1']:.6f}, "
        f"least {s['cosine_min']:.6f} (line {worst})"
    )
    yield (
        f"of its {found.num_neighbours} nearest texts, other ones: {s['neighbours_changed']:.2f} on average; "
        f"{s['texts_with_all_kept']:.1%} of texts keep all, {s['texts_with_nearest_kept']:.1%} the nearest"
    )
