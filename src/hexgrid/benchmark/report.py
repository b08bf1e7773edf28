"""What was measured as a table for people, as data for programs, and as a plot."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hexgrid.benchmark.load import Measured, Point
from hexgrid.errors import ConfigError
from hexgrid.tables import aligned

_HEADER = (
    "tokens",
    "inputs",
    "concurrency",
    "requests",
    "failures",
    "tokens/s",
    "requests/s",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "of GEMM",
)


def table(measured: Sequence[Measured], shares: Sequence[float | None]) -> Iterator[str]:
    """One line a kind of load, under a header; then what failed, and how often."""
    yield from aligned([_HEADER, *map(_cells, measured, shares)], num_left=0)
    for each in measured:
        for message, count in each.failures.most_common():
            yield f"{count} x {message}"


def as_data(measured: Sequence[Measured], shares: Sequence[float | None]) -> list[dict[str, Any]]:
    """One object a kind of load."""
    return [
        {
            "num_tokens": each.point.num_tokens,
            "num_inputs": each.point.num_inputs,
            "concurrency": each.point.concurrency,
            **each.summary(),
            "gemm_share": share,
        }
        for each, share in zip(measured, shares, strict=True)
    ]


def check_plot(file: Path) -> None:
    """Refuse a plot that could not be drawn in the end.

    Raises:
        ConfigError: another kind of file, or matplotlib is not installed.
    """
    if file.suffix not in (".svg", ".png"):
        raise ConfigError(f"--plot {file} must end in .svg or .png")
    try:
        importlib.import_module("matplotlib")
    except ImportError:
        raise ConfigError("--plot needs matplotlib: pip install 'hexgrid[bench]'") from None


def plot(measured: Sequence[Measured], title: str, file: Path) -> None:
    """Tokens/s and p95 against what was varied most, length or concurrency, a line for each of the other."""
    figures = importlib.import_module("matplotlib.figure")
    figure = figures.Figure(figsize=(10, 4), layout="constrained")
    figure.suptitle(title)
    speed, latency = figure.subplots(1, 2)
    answered = [each for each in measured if each.latencies]
    along, across = _axes(answered)
    for value in sorted({across.of(each.point) for each in answered}):
        mine = [each for each in answered if across.of(each.point) == value]
        x = [along.of(each.point) for each in mine]
        found = [each.summary() for each in mine]
        label = f"{value} {across.name}"
        speed.plot(x, [each["tokens_per_s"] for each in found], "o-", label=label)
        latency.plot(x, [each["p95_ms"] for each in found], "o-", label=label)
    for axes, name in ((speed, "tokens/s"), (latency, "p95, ms")):
        axes.set_xscale("log", base=2)
        axes.set_xlabel(along.name)
        axes.set_ylabel(name)
        axes.set_ylim(bottom=0)
        axes.grid(visible=True, alpha=0.3)
    speed.legend()
    figure.savefig(file)


class _Axis(NamedTuple):
    """Something that kinds of load differ in."""

    name: str
    of: Callable[[Point], int]


_LENGTH = _Axis("tokens of a text", lambda point: point.num_tokens)
_CONCURRENCY = _Axis("callers at a time", lambda point: point.concurrency)


def _axes(measured: Sequence[Measured]) -> tuple[_Axis, _Axis]:
    """The axis to plot along, and the one that tells the lines apart."""
    num_lengths, num_concurrencies = (
        len({axis.of(each.point) for each in measured}) for axis in (_LENGTH, _CONCURRENCY)
    )
    if num_concurrencies > num_lengths:
        return _CONCURRENCY, _LENGTH
    return _LENGTH, _CONCURRENCY


def _cells(measured: Measured, share: float | None) -> tuple[str, ...]:
    found = measured.summary()
    latencies = (found["p50_ms"], found["p95_ms"], found["p99_ms"])
    return (
        f"{measured.point.num_tokens}",
        f"{measured.point.num_inputs}",
        f"{measured.point.concurrency}",
        f"{found['requests']}",
        f"{found['failures']}",
        f"{found['tokens_per_s']:.0f}",
        f"{found['requests_per_s']:.1f}",
        *("-" if value is None else f"{value:.1f}" for value in latencies),
        "-" if share is None else f"{share:.0%}",
    )
