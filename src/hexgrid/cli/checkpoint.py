"""hexgrid checkpoint: make random ones, look into real ones, write them out for other software."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from hexgrid.model.layout import Progress


@click.group()
def command() -> None:
    """Make, inspect or export checkpoints."""


@command.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--size", type=click.Choice(["tiny", "0.6B", "4B", "8B"]), default="tiny", show_default=True
)
@click.option(
    "--layers", type=click.IntRange(1, 1024), help="Fewer or more layers than the size has."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--dtype",
    type=click.Choice(["bfloat16", "float32", "float16"]),
    default="bfloat16",
    show_default=True,
)
def make(directory: Path, size: Any, layers: int | None, seed: int, dtype: str) -> None:
    """Write a seeded random checkpoint of the real architecture, with the real tokenizer.

    Its vectors mean nothing: it is for tests, benchmarks and trying a deployment without a download.
    """
    import torch
    from rich.console import Console

    from hexgrid.model.synthetic import WARNING, make_checkpoint

    console = Console(stderr=True)
    with _progress(console) as on_tensor:
        make_checkpoint(
            directory,
            size,
            num_layers=layers,
            seed=seed,
            dtype=getattr(torch, dtype),
            on_tensor=on_tensor,
        )
    console.print(f"Wrote {directory}. [bold]{WARNING}[/bold]", highlight=False)


@command.command()
@click.argument("model")
@click.option("--revision", help="Branch, tag or commit of a hub id.")
def info(model: str, revision: str | None) -> None:
    """Check a checkpoint's files and print what they hold, as JSON, without loading the weights."""
    from dataclasses import asdict

    from hexgrid.model.checkpoint import open_checkpoint
    from hexgrid.model.hub import resolve

    checkpoint = open_checkpoint(resolve(model, revision=revision))
    click.echo(
        json.dumps(
            {
                "directory": str(checkpoint.directory),
                "parameters": checkpoint.config.num_parameters,
                "bytes": checkpoint.num_bytes,
                "tensors": len(checkpoint.tensors),
                "prompts": checkpoint.prompts,
                "config": asdict(checkpoint.config),
            },
            indent=2,
        )
    )


@command.command()
@click.argument("model")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="bfloat16 is half as large; float32 loses nothing of any checkpoint.",
)
@click.option("--revision", help="Branch, tag or commit of a hub id.")
def export(model: str, directory: Path, dtype: Any, revision: str | None) -> None:
    """Write MODEL (hexgrid/nano, a directory or a hub id) in the published layout into a new DIRECTORY.

    transformers, sentence-transformers and vLLM load the result and give the vectors that hexgrid gives.
    """
    from rich.console import Console

    from hexgrid.model.compact import export as export_checkpoint
    from hexgrid.model.hub import resolve

    console = Console(stderr=True)
    source = resolve(model, revision=revision)
    with _progress(console) as on_tensor:
        export_checkpoint(source, directory, dtype, on_tensor=on_tensor)
    console.print(f"Wrote {directory}", highlight=False, soft_wrap=True)


@contextmanager
def _progress(console: "Console") -> Iterator["Progress"]:
    """A bar of bytes written, and what moves it."""
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    with Bar(BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("Writing")
        yield lambda done, total: bar.update(task, completed=done, total=total)
