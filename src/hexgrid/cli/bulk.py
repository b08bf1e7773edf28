"""hexgrid bulk: the vectors of files of texts, in a file."""

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from hexgrid.cli.options import config_options, refuse_engine_options, server_key
from hexgrid.config import EngineConfig
from hexgrid.config.sources import load
from hexgrid.errors import ConfigError
from hexgrid.wire import InputType, TruncationSide

if TYPE_CHECKING:
    from hexgrid.jobs.bulk import Finished, Report, Step
    from hexgrid.jobs.job import BulkJob
    from hexgrid.jobs.source import Source, Wish

_OUTPUT_FORMATS = {".parquet": "parquet", ".jsonl": "jsonl", ".npy": "npy"}


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--model",
    help="Directory, hub id, or NAME=either; with --url one of the server's models.  "
    "[default: hexgrid/nano; the server's first]",
)
@click.option(
    "--url",
    help="Ask the server at this address instead of loading a model; its key is read from "
    "HEXGRID_API_KEY or OPENAI_API_KEY.",
)
@click.option(
    "--ray", "on_ray", is_flag=True, help="Embed on a Ray cluster, with engines of MODEL."
)
@click.option(
    "--ray-address", help="Of the cluster.  [default: RAY_ADDRESS, else one on this machine]"
)
@click.option(
    "--ray-engines",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Engines at most.",
)
@click.option(
    "--ray-cpus", type=float, default=1.0, show_default=True, help="Processors of each engine."
)
@click.option("--ray-gpus", type=float, default=0.0, show_default=True, help="GPUs of each engine.")
@click.option(
    "--text-column", default="text", show_default=True, help="Column or field with the text."
)
@click.option(
    "--id-column", default="id", show_default=True, help="Column or field with the row's id."
)
@click.option(
    "--number-rows", is_flag=True, help="Number rows from 0 instead; lines of text always are."
)
@click.option("--dimensions", type=int, help="Cut vectors to this length and renormalise them.")
@click.option(
    "--input-type",
    type=click.Choice(get_args(InputType)),
    help="Put the checkpoint's prompt for queries or documents before each text.",
)
@click.option("--prompt-name", help="Put the checkpoint's prompt of this name before each text.")
@click.option("--instruction", help="Put 'Instruct: INSTRUCTION\\nQuery:' before each text.")
@click.option(
    "--truncate-prompt-tokens",
    type=int,
    metavar="N",
    help="Cut texts to N tokens, -1: to what the model takes.  [default: a longer one is an error]",
)
@click.option(
    "--truncation-side",
    type=click.Choice(get_args(TruncationSide)),
    help="The side that is cut off.  [default: right]",
)
@click.option(
    "--embed-dtype",
    type=click.Choice(["float32", "float16", "int8"]),
    default="float32",
    show_default=True,
    help="Numbers of the vectors. int8: scaled by each vector's largest.",
)
@click.option(
    "--input-format",
    type=click.Choice(["jsonl", "csv", "parquet", "text"]),
    help="What the inputs are.  [default: by their names; jsonl on standard input]",
)
@click.option(
    "--output-format",
    type=click.Choice(list(_OUTPUT_FORMATS.values())),
    help="What is written.  [default: by the name of OUTPUT]",
)
@click.option(
    "--id-type",
    type=click.Choice(["int", "string"]),
    help="How ids are written.  [default: as numbers if those of the first rows all are]",
)
@click.option(
    "--duplicate-ids",
    type=click.Choice(["error", "keep"]),
    default="error",
    show_default=True,
    help="Whether a row whose id came before is an error, or written as well.",
)
@click.option(
    "--window-rows",
    type=click.IntRange(min=1),
    default=8192,
    show_default=True,
    help="Rows that are read, sorted by length, embedded and noted together.",
)
@click.option(
    "--overwrite", is_flag=True, help="Start anew, whatever is there of OUTPUT and of its job."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Say at the end what was done as one line of JSON."
)
@config_options(EngineConfig)
def command(**options: Any) -> None:
    """Embed the texts of files and write the vectors to OUTPUT, in the order of the input.

    INPUT is a file, a folder, a pattern such as 'texts/*.parquet', or - for standard input: JSON lines, CSV
    with a header, Parquet, or lines of text; .gz and .xz are unpacked. OUTPUT is Parquet, JSON lines or .npy.

    Each row has its id, embedding, num_tokens and error; rows that cannot be embedded are also listed in
    OUTPUT.errors.jsonl. What is done is kept in OUTPUT.job until all is: the same command goes on where one
    was killed.
    """
    flags = {name: options.pop(name) for name in _engine_flags(options)}
    config = load(EngineConfig, flags, os.environ)
    # Whether anything can be read and written is told before a model is loaded.
    job = _job(options)
    from hexgrid.jobs.bulk import refuse_finished, run_bulk

    refuse_finished(job, overwrite=options["overwrite"])
    if options["url"] is not None:
        refuse_engine_options(options["url"], flags)
    overwrite = options["overwrite"]
    with _told(job) as report:
        if options["on_ray"]:
            finished = _run_on_ray(options, config, job, report)
        else:
            with _opened(options["model"], options["url"], config, job.wish) as source:
                finished = run_bulk(job, source, overwrite=overwrite, report=report)
    _say(job, finished, as_json=options["as_json"])


def _run_on_ray(
    options: dict[str, Any], config: EngineConfig, job: "BulkJob", report: "Report"
) -> "Finished":
    if options["url"] is not None:
        raise ConfigError("--ray and --url are two places to embed; give one")
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("--ray needs Ray, which is not installed: pip install 'hexgrid[ray]'")
    from hexgrid.cli.models import model_specs
    from hexgrid.config import ServerConfig
    from hexgrid.jobs.on_ray import Cluster, EngineSpec, run_bulk_on_ray

    model = options["model"]
    (named,) = model_specs(ServerConfig(model=(model,) if model else ()))
    directory = Path(named.model)
    # Engines run in folders of their own.
    spec = EngineSpec(
        named.names[0], str(directory.absolute()) if directory.is_dir() else named.model, config
    )
    cluster = Cluster(
        options["ray_address"], options["ray_engines"], options["ray_cpus"], options["ray_gpus"]
    )
    return run_bulk_on_ray(job, spec, cluster, overwrite=options["overwrite"], report=report)


def _engine_flags(options: dict[str, Any]) -> list[str]:
    from hexgrid.config.settings import settings

    return [setting.name for setting in settings(EngineConfig) if setting.name in options]


def _job(options: dict[str, Any]) -> "BulkJob":
    from hexgrid.jobs.inputs import find_inputs
    from hexgrid.jobs.job import BulkJob
    from hexgrid.jobs.rows import Columns
    from hexgrid.jobs.source import Wish

    inputs = find_inputs(options["inputs"], options["input_format"])
    has_ids = not options["number_rows"] and not any(file.format == "text" for file in inputs)
    wish = {name: options[name] for name in Wish.__struct_fields__}
    return BulkJob(
        inputs=inputs,
        columns=Columns(options["text_column"], options["id_column"] if has_ids else None),
        output=options["output"],
        output_format=_output_format(options["output"], options["output_format"]),
        wish=Wish(**wish),
        embed_dtype=options["embed_dtype"],
        id_type=options["id_type"],
        duplicate_ids=options["duplicate_ids"],
        window_rows=options["window_rows"],
    )


def _output_format(output: Path, given: str | None) -> Any:
    form = given or _OUTPUT_FORMATS.get(output.suffix.lower())
    if form is None:
        raise ConfigError(
            f"{output} has no ending of {', '.join(_OUTPUT_FORMATS)}; say what it is to be with "
            "--output-format"
        )
    return form


@contextmanager
def _opened(
    model: str | None, url: str | None, config: EngineConfig, wish: "Wish"
) -> "Iterator[Source]":
    if url is not None:
        from hexgrid.jobs.remote import remote_source

        with remote_source(url, model, server_key(os.environ), wish) as source:
            yield source
        return
    from hexgrid.cli.models import opened
    from hexgrid.jobs.local import local_source

    with opened(model, config) as served:
        yield local_source(served, config, wish)


@contextmanager
def _told(job: "BulkJob") -> "Iterator[Callable[[Step], None]]":
    """A bar of bytes read, with rows and tokens a second, where somebody can see it."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.fields[rows]:,} rows"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]:,.0f} tokens/s"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        total = job.num_bytes or None
        task = bar.add_task("", total=total, rows=0, rate=0.0)
        rows = tokens = 0

        def report(step: "Step") -> None:
            nonlocal rows, tokens
            rows += step.num_rows
            if step.is_of_before:  # begins anew: what was done before tells nothing of this rate
                bar.reset(task, total=total, completed=step.num_bytes, rows=rows, rate=0.0)
                if rows:
                    console.print(f"Going on after {rows:,} rows")
                return
            tokens += step.num_tokens
            seconds = bar.tasks[0].elapsed or 1.0
            bar.update(task, completed=step.num_bytes, rows=rows, rate=tokens / seconds)

        yield report


def _say(job: "BulkJob", finished: "Finished", *, as_json: bool) -> None:
    rate = finished.num_tokens / finished.seconds
    if as_json:
        import orjson

        data = {"output": str(job.output), **finished._asdict(), "tokens_per_second": rate}
        click.echo(orjson.dumps(data))
        return
    errors = ""
    if finished.num_errors:
        errors = f", {finished.num_errors:,} rows with an error: see {job.output}.errors.jsonl"
    click.echo(
        f"{finished.num_vectors:,} vectors in {job.output}{errors} ({rate:,.0f} tokens/s)", err=True
    )
