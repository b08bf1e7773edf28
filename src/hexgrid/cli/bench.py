"""hexgrid bench: load on a model here or on a server, and the latencies and rates that it meets with."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from hexgrid.benchmark.workload import FEWEST_TOKENS
from hexgrid.cli.options import config_options, refuse_engine_options, server_key
from hexgrid.cli.progress import progress
from hexgrid.config import CACHE_SETTINGS, EngineConfig
from hexgrid.config.sources import load
from hexgrid.errors import ConfigError

if TYPE_CHECKING:
    from hexgrid.benchmark.load import Ask, Measured, Point

_LENGTHS, _CONCURRENCY = (16, 128, 512), (1, 16)


class _Plan(NamedTuple):
    """How long each kind of load lasts."""

    seconds: float
    warm_up: float


class _Found(NamedTuple):
    """What was measured, and the share of the machine's GEMM rate where that is known."""

    name: str
    measured: "list[Measured]"
    shares: list[float | None]


@click.command()
@click.argument("model_or_url")
@click.option(
    "--length",
    "lengths",
    type=click.IntRange(min=FEWEST_TOKENS),
    multiple=True,
    help=f"Tokens of a text, EOS included; repeat for several.  [default: {', '.join(map(str, _LENGTHS))}]",
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    multiple=True,
    help=f"Callers at a time; repeat for several.  [default: {', '.join(map(str, _CONCURRENCY))}]",
)
@click.option(
    "--inputs", type=click.IntRange(min=1), default=1, help="Texts of a request.  [default: 1]"
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.0, min_open=True),
    default=10.0,
    help="How long each kind of load lasts.  [default: 10]",
)
@click.option(
    "--warm-up",
    type=click.FloatRange(min=0.0),
    default=2.0,
    help="Seconds of the same before it, which do not count.  [default: 2]",
)
@click.option("--plot", type=click.Path(path_type=Path), help="Draw to this file, .svg or .png.")
@click.option("--url-model", metavar="NAME", help="With a URL: which of its models.")
@click.option(
    "--encoding-format",
    type=click.Choice(["float", "base64"]),
    help="With a URL: how vectors are sent.  [default: base64, as the OpenAI SDK asks]",
)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON; the table goes to stderr.")
@config_options(EngineConfig, without=CACHE_SETTINGS)
def command(
    model_or_url: str,
    lengths: tuple[int, ...],
    concurrency: tuple[int, ...],
    inputs: int,
    seconds: float,
    warm_up: float,
    plot: Path | None,
    url_model: str | None,
    encoding_format: str | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Measure a model or a server under load.

    MODEL_OR_URL is a directory, a hub id, NAME=either, or the URL of any server with OpenAI's embeddings API,
    such as http://127.0.0.1:8000/v1 (its key is read from HEXGRID_API_KEY or OPENAI_API_KEY).

    Every length is run with every concurrency: so many callers, each of whom asks again as soon as it is
    answered, with texts of plain words of which no two are alike. A model is measured in this process,
    without HTTP, and beside the rate at which this machine multiplies matrices.
    """
    config = load(EngineConfig, flags, os.environ).without_caches()
    from hexgrid.benchmark import report
    from hexgrid.benchmark.load import Point

    if plot is not None:
        report.check_plot(plot)
    points = [
        Point(length, callers, inputs)
        for callers, length in itertools.product(concurrency or _CONCURRENCY, lengths or _LENGTHS)
    ]
    plan = _Plan(seconds, warm_up)
    with progress("Loads", len(points)) as advance:
        if model_or_url.startswith(("http://", "https://")):
            refuse_engine_options(model_or_url, flags)
            found = _bench_url(
                model_or_url, url_model, encoding_format or "base64", points, plan, advance
            )
        elif url_model is not None or encoding_format is not None:
            raise ConfigError(
                f"--url-model and --encoding-format go with a URL, and {model_or_url!r} is none"
            )
        else:
            found = _bench_model(model_or_url, config, points, plan, advance)
    for line in report.table(found.measured, found.shares):
        click.echo(line, err=as_json)
    if plot is not None:
        report.plot(found.measured, found.name, plot)
    if as_json:
        import orjson

        results = report.as_data(found.measured, found.shares)
        click.echo(orjson.dumps({"target": found.name, "seconds": seconds, "results": results}))
    if not all(each.latencies for each in found.measured):
        raise click.exceptions.Exit(1)


def _bench_url(
    url: str,
    url_model: str | None,
    encoding_format: str,
    points: "list[Point]",
    plan: _Plan,
    advance: Callable[[int], None],
) -> _Found:
    from hexgrid.benchmark.targets import Server, over_http
    from hexgrid.evaluation.remote import opened_remote

    key = server_key(os.environ)
    with opened_remote(url, model=url_model, key=key) as remote:  # finds its only model's name
        server = Server(remote.url, remote.name, key, encoding_format)

    async def run() -> "list[Measured]":
        async with over_http(server) as ask:
            return [each async for each in _each_measured(ask, points, plan, advance)]

    return _Found(f"{server.model} at {server.url}", asyncio.run(run()), [None] * len(points))


def _bench_model(
    model: str,
    config: EngineConfig,
    points: "list[Point]",
    plan: _Plan,
    advance: Callable[[int], None],
) -> _Found:
    from hexgrid.benchmark.targets import in_process
    from hexgrid.cli.models import opened
    from hexgrid.model.gemm import gemm_rate, linear_operations
    from hexgrid.model.loading import pick_device

    with opened(model, config) as served:
        for point in points:
            if point.num_tokens > served.max_model_len:
                raise ConfigError(
                    f"--length {point.num_tokens}: {served.name} takes at most {served.max_model_len} tokens"
                )
        device = pick_device(config.device)
        measured: list[Measured] = []
        shares: list[float | None] = []

        async def run() -> None:
            # The rate is taken before and after each load: of a machine that others share, it changes.
            rate = gemm_rate(device, served.precision)
            async for each in _each_measured(in_process(served), points, plan, advance):
                before, rate = rate, gemm_rate(device, served.precision)
                num_inputs = len(each.latencies) * each.point.num_inputs
                operations = num_inputs * linear_operations(served.config, each.point.num_tokens)
                measured.append(each)
                shares.append(operations / each.seconds / ((before + rate) / 2))

        asyncio.run(run())
        return _Found(f"{served.name} in this process, {served.precision}", measured, shares)


async def _each_measured(
    ask: "Ask", points: "list[Point]", plan: _Plan, advance: Callable[[int], None]
) -> "AsyncIterator[Measured]":
    from hexgrid.benchmark.load import measure
    from hexgrid.benchmark.workload import Workload

    workload = Workload()
    for point in points:
        requests = workload.requests(point.num_tokens, point.num_inputs)
        yield await measure(ask, requests, point, seconds=plan.seconds, warm_up=plan.warm_up)
        advance(1)
