"""hexgrid checkpoint: make random ones, look into real ones."""

import json
from pathlib import Path
from typing import Any

import click


@click.group()
def command() -> None:
    """Make or inspect checkpoints."""


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
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    from hexgrid.model.synthetic import WARNING, make_checkpoint

    console = Console(stderr=True)
    bar = Progress(BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=console)
    with bar as progress:
        task = progress.add_task("Writing")
        make_checkpoint(
            directory,
            size,
            num_layers=layers,
            seed=seed,
            dtype=getattr(torch, dtype),
            on_tensor=lambda done, total: progress.update(task, completed=done, total=total),
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
