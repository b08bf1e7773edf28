"""Figures as lines for people: the server first, then a column a model, as many as the width has room for."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from hexgrid.monitor.figures import PHASES, Figures, Latency, ModelFigures
from hexgrid.tables import aligned

_NOTHING = "-"
_NEARLY_FULL = 0.8


class Line(NamedTuple):
    """One line, and whether somebody should look at it."""

    text: str
    is_alarming: bool = False


class _Row(NamedTuple):
    name: str
    cells: tuple[str, ...]
    is_alarming: bool = False


def lines(figures: Figures, width: int | None = None) -> list[Line]:
    """No wider than `width`, unless a single model is."""
    shown = figures.models
    table = _table(_model_rows(shown))
    while width is not None and len(shown) > 1 and max(len(line.text) for line in table) > width:
        shown = shown[:-1]
        table = _table(_model_rows(shown))
    num_hidden = len(figures.models) - len(shown)
    hidden = [Line(f"{num_hidden} more in a wider terminal")] if num_hidden else []
    return [*_table(_server_rows(figures)), Line(""), *table, *hidden]


def _table(rows: Sequence[_Row]) -> list[Line]:
    texts = aligned([(row.name, *row.cells) for row in rows], num_left=1)
    return [Line(text, row.is_alarming) for text, row in zip(texts, rows, strict=True)]


def _server_rows(figures: Figures) -> list[_Row]:
    rows = [
        _Row("version", (figures.version or _NOTHING,)),
        _Row("up", (_duration(figures.uptime_seconds),)),
        _Row("requests/s", (_rate(figures.requests_per_s),)),
        _Row("in flight", (_count(figures.in_flight),)),
        _Row("memory", (_bytes(figures.memory_bytes),)),
        _Row("processor", (_percent(figures.cpu_share),)),
        _Row("open files", (_count(figures.open_files),)),
    ]
    rejected = figures.rejected_per_s.items()
    return rows + [_Row(f"{reason}/s", (_rate(rate),), rate > 0) for reason, rate in rejected]


def _model_rows(models: Sequence[ModelFigures]) -> list[_Row]:
    def row(
        name: str,
        cell: Callable[[ModelFigures], str],
        is_alarming: Callable[[ModelFigures], bool] = lambda _: False,
    ) -> _Row:
        return _Row(name, tuple(map(cell, models)), any(map(is_alarming, models)))

    return [
        row("model", lambda m: m.name),
        row("ready", lambda m: _yes(m.ready), lambda m: m.ready is False),
        row("requests/s", lambda m: _rate(m.requests_per_s)),
        row("inputs/s", lambda m: _rate(m.inputs_per_s)),
        row("tokens/s", lambda m: _count(m.tokens_per_s)),
        row("queue, inputs", lambda m: _count(m.queue_inputs)),
        row("queue, tokens", lambda m: _count(m.queue_tokens)),
        row("queue, full", lambda m: _percent(m.queue_share), _is_nearly_full),
        row("batch, inputs", lambda m: _rate(m.batch_inputs)),
        row("batch, tokens", lambda m: _count(m.batch_tokens)),
        row("from result cache", lambda m: _percent(m.result_cache_share)),
        row("from disk", lambda m: _percent(m.result_store_share)),
        row("from prefix cache", lambda m: _percent(m.prefix_cache_share)),
        row("p50 / p95 in ms", lambda _: ""),
        *(row(f"  {part}", _latency_cell(part)) for part in ("request", *PHASES)),
        *_rejection_rows(models),
    ]


def _latency_cell(part: str) -> Callable[[ModelFigures], str]:
    return lambda model: _latency(model.latency[part])


def _rejection_rows(models: Sequence[ModelFigures]) -> Iterator[_Row]:
    for reason in sorted({reason for model in models for reason in model.rejected_per_s}):
        rates = [model.rejected_per_s.get(reason, 0.0) for model in models]
        yield _Row(f"{reason}/s", tuple(map(_rate, rates)), any(rates))


def _is_nearly_full(model: ModelFigures) -> bool:
    return model.queue_share is not None and model.queue_share >= _NEARLY_FULL


def _yes(value: bool | None) -> str:  # noqa: FBT001 (it is what is shown)
    return _NOTHING if value is None else "yes" if value else "NO"


def _rate(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:,.1f}"


def _count(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.0%}"


def _bytes(value: float | None) -> str:
    return _NOTHING if value is None else f"{value / 1e6:,.0f} MB"


def _latency(latency: Latency) -> str:
    return f"{_ms(latency.p50_ms)} / {_ms(latency.p95_ms)}"


def _ms(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:,.{1 if value < 10 else 0}f}"


def _duration(seconds: float | None) -> str:
    """In its two largest units."""
    if seconds is None:
        return _NOTHING
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((place for place, (number, _) in enumerate(units) if number), 3)
    return " ".join(f"{number} {unit}" for number, unit in units[first : first + 2])
