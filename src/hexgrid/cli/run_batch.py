"""hexgrid run-batch: the requests of a batch file, answered in another, without a server."""

import asyncio
import os
from pathlib import Path
from typing import Any

import click

from hexgrid.cli.options import config_options
from hexgrid.config import EngineConfig, ServerConfig
from hexgrid.config.sources import load
from hexgrid.errors import ConfigError

# No request of a file is given up for having waited.
_NO_TIMEOUT = 1e9


@click.command()
@click.option(
    "-i",
    "--input-file",
    required=True,
    type=click.Path(path_type=Path),
    help="Batch file: a request a line, {custom_id, method, url, body}; .gz and .xz are unpacked.",
)
@click.option(
    "-o",
    "--output-file",
    required=True,
    type=click.Path(path_type=Path),
    help="Where the answers go, a line each in the order of the requests; what is there is replaced.",
)
@click.option("--model", help="Directory, hub id, or NAME=either.  [default: hexgrid/nano]")
@click.option(
    "--served-model-name",
    multiple=True,
    help="Name that requests call the model by; repeat for several.  [default: as --model]",
)
@config_options(EngineConfig)
def command(
    input_file: Path,
    output_file: Path,
    model: str | None,
    served_model_name: tuple[str, ...],
    **flags: Any,
) -> None:
    """Answer the requests of a batch file of OpenAI's form.

    The form is that of `vllm run-batch` and of OpenAI's Batch API, for /v1/embeddings. Each request is
    answered as the server answers it; one that fails has its error and harms no other.
    """
    engine = load(EngineConfig, flags, os.environ)
    if not output_file.parent.is_dir():
        raise ConfigError(f"The folder of {output_file} is not there")
    try:
        size = input_file.stat().st_size
    except OSError as error:
        raise ConfigError(f"{input_file} cannot be read: {error.strerror}") from error
    config = ServerConfig(
        model=(model,) if model else (),
        served_model_name=served_model_name,
        request_timeout=_NO_TIMEOUT,
        engine=engine,
    )
    from hexgrid.cli.models import model_specs, open_spec
    from hexgrid.cli.progress import progress
    from hexgrid.jobs.run_batch import run_batch
    from hexgrid.metrics import Metrics
    from hexgrid.server.app import create_app
    from hexgrid.server.registry import Models

    metrics = Metrics()
    (spec,) = model_specs(config)
    models = Models([open_spec(spec, config, metrics)])
    app = create_app(models, config, metrics)
    done = 0
    with progress("Bytes", size) as advance:

        def report(num_bytes: int) -> None:
            nonlocal done
            advance(num_bytes - done)
            done = num_bytes

        answered = asyncio.run(run_batch(app, input_file, output_file, report=report))
    failed = f", {answered.num_failed:,} with an error" if answered.num_failed else ""
    click.echo(
        f"{answered.num_lines:,} requests answered in {output_file}{failed} "
        f"({answered.num_tokens:,} tokens)",
        err=True,
    )
