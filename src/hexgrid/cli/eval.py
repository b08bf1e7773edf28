"""hexgrid eval: similarity and retrieval scores of a model, or of a running server, on one's own data."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from hexgrid.cli.options import config_options, refuse_engine_options, server_key
from hexgrid.cli.progress import progress
from hexgrid.config import EngineConfig
from hexgrid.config.sources import load
from hexgrid.errors import ConfigError

if TYPE_CHECKING:
    from hexgrid.evaluation.datasets import EvaluationSet
    from hexgrid.evaluation.run import Embed, Report


class _Source(NamedTuple):
    """What is evaluated: its name, its vectors, and the prompt for questions."""

    name: str
    embed: "Embed"
    query_prompt: str


@click.command()
@click.argument("model_or_url")
@click.option(
    "--data",
    "directory",
    required=True,
    type=click.Path(path_type=Path),
    help="Directory of evaluation sets, see above.",
)
@click.option(
    "--query-prompt",
    default="none",
    metavar="none|query|TEXT",
    help="What stands before questions: nothing, the checkpoint's query prompt (with a URL, the one that "
    "Qwen3-Embedding was published with), or 'Instruct: TEXT\\nQuery:'.  [default: none]",
)
@click.option(
    "--dimensions",
    type=click.IntRange(min=1),
    multiple=True,
    help="Score vectors cut to this length and renormalised; repeat for several, every text is still "
    "embedded once.  [default: full length]",
)
@click.option("--url-model", metavar="NAME", help="With a URL: which of its models.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON; the table goes to stderr.")
@config_options(EngineConfig)
def command(
    model_or_url: str,
    directory: Path,
    query_prompt: str,
    dimensions: tuple[int, ...],
    url_model: str | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Score a model on data of your own.

    MODEL_OR_URL is a directory, a hub id, NAME=either, or the URL of any server with OpenAI's embeddings API,
    such as http://127.0.0.1:8000/v1 (its key is read from HEXGRID_API_KEY or OPENAI_API_KEY).

    The directory of --data holds JSON lines, plain or as .xz. Files NAME.jsonl are scored pairs
    {"a", "b", "score"}, for Spearman's correlation of cosine and score. Folders with questions.jsonl
    {"id", "text", "doc"} and paragraphs.jsonl {"id", "text"} are retrieval sets, for recall and nDCG by
    exact dot product.
    """
    config = load(EngineConfig, flags, os.environ)
    from hexgrid.evaluation.datasets import read_sets

    sets = read_sets(directory)  # before a model is loaded: wrong data should be told at once
    if model_or_url.startswith(("http://", "https://")):
        refuse_engine_options(model_or_url, flags)
        opened = _opened_url(model_or_url, url_model, query_prompt)
    elif url_model is not None:
        raise ConfigError(f"--url-model goes with a URL, and {model_or_url!r} is none")
    else:
        opened = _opened_model(model_or_url, config, query_prompt, dimensions)
    with opened as source:
        report = _evaluate(sets, source, dimensions)
    _print(report, source, as_json=as_json)


@contextmanager
def _opened_url(url: str, model: str | None, query_prompt: str) -> Iterator[_Source]:
    from hexgrid.evaluation.remote import opened_remote

    prompt = ""
    if query_prompt != "none":
        from hexgrid.engine.served_model import instruction_prompt
        from hexgrid.model.layout import QUERY_TASK

        prompt = instruction_prompt(QUERY_TASK if query_prompt == "query" else query_prompt)
    with opened_remote(url, model=model, key=server_key(os.environ)) as remote:
        yield _Source(remote.name, remote.embed, prompt)


@contextmanager
def _opened_model(
    model: str, config: EngineConfig, query_prompt: str, dimensions: tuple[int, ...]
) -> Iterator[_Source]:
    from hexgrid.cli.models import opened
    from hexgrid.cli.models import query_prompt as prompt_of
    from hexgrid.evaluation.local import embed_with

    with opened(model, config) as served:
        prompt = ""
        if query_prompt != "none":
            prompt = prompt_of(served, None if query_prompt == "query" else query_prompt)
        for each in dimensions:
            served.check_dimensions(each)
        yield _Source(served.name, embed_with(served), prompt)


def _evaluate(
    sets: "list[EvaluationSet]", source: _Source, dimensions: tuple[int, ...]
) -> "Report":
    """All scores, with a progress bar where somebody can see it."""
    from hexgrid.evaluation.run import evaluate, num_texts

    with progress("Texts", num_texts(sets)) as advance:
        return evaluate(
            sets,
            source.embed,
            dimensions=tuple(dict.fromkeys(dimensions)),
            query_prompt=source.query_prompt,
            on_texts=advance,
        )


def _print(report: "Report", source: _Source, *, as_json: bool) -> None:
    from hexgrid.evaluation.report import as_data, table

    for line in table(report):
        click.echo(line, err=as_json)
    if as_json:
        import orjson

        data = {"model": source.name, "query_prompt": source.query_prompt} | as_data(report)
        click.echo(orjson.dumps(data))
