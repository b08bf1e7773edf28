"""The change between two readings -> the figures that are watched, plain data."""

from dataclasses import dataclass

from hexgrid.monitor.reading import Change

# "request" is the whole of one; the others are its parts.
PHASES = ("tokenize", "queue", "forward", "encode")


@dataclass(frozen=True)
class Latency:
    """Milliseconds; None when there was nothing to time."""

    p50_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True)
class ModelFigures:
    """One served model; means, shares and rates are of the interval, the queue is of its end."""

    name: str
    ready: bool | None
    requests_per_s: float
    inputs_per_s: float
    tokens_per_s: float
    queue_inputs: float | None
    queue_tokens: float | None
    queue_share: float | None  # of the tokens that may wait
    batch_inputs: float | None
    batch_tokens: float | None
    result_cache_share: float | None  # of inputs that were answered from it
    result_store_share: float | None
    prefix_cache_share: float | None  # of tokens whose keys and values were at hand
    latency: dict[str, Latency]  # "request", then each of PHASES
    rejected_per_s: dict[str, float]  # by every reason that there was since the server's start


@dataclass(frozen=True)
class Figures:
    """The whole server; what the operating system does not tell is None."""

    version: str | None
    seconds: float
    uptime_seconds: float | None
    requests_per_s: float
    in_flight: float | None
    memory_bytes: float | None
    cpu_share: float | None  # of one core
    open_files: float | None
    rejected_per_s: dict[str, float]  # before a model was known
    models: list[ModelFigures]


def figures(change: Change, now: float) -> Figures:
    """What happened in between; `now` is the time of day in seconds, for the server's age."""
    after = change.after
    started = after.total("process_start_time_seconds")
    versions = after.values_of("version", "hexgrid_build_info")
    has_cpu = after.total("process_cpu_seconds_total") is not None
    return Figures(
        version=versions[0] if versions else None,
        seconds=change.seconds,
        uptime_seconds=None if started is None else max(0.0, now - started),
        requests_per_s=change.rate("hexgrid_http_requests_total"),
        in_flight=after.total("hexgrid_http_requests_in_flight"),
        memory_bytes=after.total("process_resident_memory_bytes"),
        cpu_share=change.rate("process_cpu_seconds_total") if has_cpu else None,
        open_files=after.total("process_open_fds"),
        rejected_per_s=_rejected(change, ""),
        models=[_of_model(change, name) for name in after.values_of("model_name", _QUEUE)],
    )


_QUEUE = "hexgrid_queue_tokens"  # every model has it from its start


def _of_model(change: Change, name: str) -> ModelFigures:
    after = change.after
    ready = after.total("hexgrid_model_ready", model_name=name)
    waiting = after.total(_QUEUE, model_name=name)
    most = after.total("hexgrid_queue_max_tokens", model_name=name)
    hits, misses, joined, stored = (
        change.increase(f"hexgrid_{counter}_total", model_name=name)
        for counter in (
            "result_cache_hits",
            "result_cache_misses",
            "joined_inputs",
            "result_store_hits",
        )
    )
    return ModelFigures(
        name=name,
        ready=None if ready is None else bool(ready),
        requests_per_s=change.rate("hexgrid_request_duration_seconds_count", model_name=name),
        inputs_per_s=change.rate("hexgrid_inputs_total", model_name=name),
        tokens_per_s=change.rate("hexgrid_prompt_tokens_total", model_name=name),
        queue_inputs=after.total("hexgrid_queue_sequences", model_name=name),
        queue_tokens=waiting,
        queue_share=None if waiting is None or not most else waiting / most,
        batch_inputs=change.mean("hexgrid_batch_sequences", model_name=name),
        batch_tokens=change.mean("hexgrid_batch_tokens", model_name=name),
        result_cache_share=_share(hits, hits + misses + joined),
        result_store_share=_share(stored, misses),
        prefix_cache_share=_share(
            change.increase("hexgrid_prefix_cache_tokens_total", model_name=name),
            change.increase("hexgrid_batch_tokens_sum", model_name=name),
        ),
        latency={
            "request": _latency(change, "hexgrid_request_duration_seconds", name),
            **{
                phase: _latency(change, "hexgrid_phase_duration_seconds", name, phase=phase)
                for phase in PHASES
            },
        },
        rejected_per_s=_rejected(change, name),
    )


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _latency(change: Change, histogram: str, model_name: str, **labels: str) -> Latency:
    p50, p95 = (
        change.quantile(share, histogram, model_name=model_name, **labels) for share in (0.5, 0.95)
    )
    return Latency(
        p50_ms=None if p50 is None else p50 * 1000, p95_ms=None if p95 is None else p95 * 1000
    )


def _rejected(change: Change, model_name: str) -> dict[str, float]:
    name = "hexgrid_rejections_total"
    reasons = change.after.values_of("reason", name, model_name=model_name)
    return {
        reason: change.rate(name, model_name=model_name, reason=reason)
        for reason in sorted(reasons)
        if change.after.total(name, model_name=model_name, reason=reason)
    }
