"""hexgrid embed: texts in, the API's JSON out, without a server."""

import os
import sys
import time
import uuid
from typing import Any

import click

from hexgrid.cli.options import config_options
from hexgrid.config import EngineConfig
from hexgrid.config.sources import load


@click.command()
@click.argument("text", nargs=-1)
@click.option("--model", help="Directory, hub id, or NAME=either.  [default: hexgrid/nano]")
@click.option("--query", is_flag=True, help="Put the checkpoint's query prompt before each text.")
@click.option("--instruction", help="Put 'Instruct: INSTRUCTION\\nQuery:' before each text.")
@click.option("--dimensions", type=int, help="Cut vectors to this length and renormalise them.")
@config_options(EngineConfig)
def command(
    text: tuple[str, ...],
    model: str | None,
    query: bool,
    instruction: str | None,
    dimensions: int | None,
    **flags: Any,
) -> None:
    """Embed each TEXT, or each line of standard input, and print the answer of POST /v1/embeddings."""
    config = load(EngineConfig, flags, os.environ)
    texts = list(text) or [line.removesuffix("\n") for line in sys.stdin]
    if not texts:
        raise click.UsageError("Nothing to embed: give TEXT, or lines on standard input")
    from hexgrid.cli.models import embed, opened, query_prompt
    from hexgrid.server.answer import Answer, embeddings_body, json_of

    with opened(model, config) as served:
        prompt = query_prompt(served, instruction) if query or instruction else ""
        embedded = embed(served, texts, dimensions=dimensions, prompt=prompt)
    answer = Answer(
        f"embd-{uuid.uuid4().hex[16:]}",
        int(time.time()),
        served.name,
        embedded.vectors,
        embedded.num_tokens,
    )
    click.echo(json_of(embeddings_body(answer, list(answer.vectors))))
