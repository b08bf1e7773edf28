"""hexgrid rank: the document that answers a query best, as the API page's similarity result."""

import json
import os
from typing import Any

import click

from hexgrid.cli.options import config_options
from hexgrid.config import EngineConfig
from hexgrid.config.sources import load


@click.command()
@click.argument("query")
@click.argument("document", nargs=-1, required=True)
@click.option("--model", help="Directory, hub id, or NAME=either.  [default: hexgrid/nano]")
@click.option(
    "--instruction", help="What the query is for.  [default: the checkpoint's query prompt]"
)
@click.option("--dimensions", type=int, help="Compare vectors cut to this length.")
@click.option("--all", "show_all", is_flag=True, help="Add every document, best first.")
@config_options(EngineConfig)
def command(
    query: str,
    document: tuple[str, ...],
    model: str | None,
    instruction: str | None,
    dimensions: int | None,
    show_all: bool,
    **flags: Any,
) -> None:
    """Print which DOCUMENT is nearest to QUERY, with its cosine similarity."""
    config = load(EngineConfig, flags, os.environ)
    from hexgrid.cli.models import embed, opened, query_prompt

    with opened(model, config) as served:
        asked = embed(
            served, [query], dimensions=dimensions, prompt=query_prompt(served, instruction)
        )
        found = embed(served, list(document), dimensions=dimensions)
    similarities = found.vectors @ asked.vectors[0]
    matches = [
        {
            "document_index": int(index),
            "document": document[index],
            "similarity": round(float(similarities[index]), 6),
        }
        for index in (-similarities).argsort(kind="stable")
    ]
    result: dict[str, Any] = {"query": query, "top_match": matches[0]}
    if show_all:
        result["matches"] = matches
    click.echo(json.dumps(result, indent=2, ensure_ascii=False))
