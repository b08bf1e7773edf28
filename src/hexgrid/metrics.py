"""What is counted, and under which names; one object a process, one view of it a served model.

Labels hold served names, phases, statuses and reasons only: never keys, users or texts, whose number is
unbounded. docs/metrics.md is made from this file.
"""

import functools
from importlib.metadata import version
from platform import python_version
from typing import Literal, NamedTuple, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from hexgrid import __version__
from hexgrid.errors import EngineError, HexgridError, NonFiniteError

Outcome = Literal["answered", "busy", "refused", "failed", "cancelled"]
Phase = Literal["tokenize", "queue", "forward", "encode"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
_SEQUENCES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048)
# Counted from 0, so that the first one is an increase that an alert can see.
_SERVER_FAULTS: tuple[type[HexgridError], ...] = (HexgridError, EngineError, NonFiniteError)


class Instrument(NamedTuple):
    """What a page tells of one metric; `name` is that of queries (a histogram's has no suffix yet)."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    text: str


class Metrics:
    """All instruments, on a registry of their own; `instruments` lists them.

    Where /proc tells it (Linux), the process's memory, processor time and open files are told as well,
    under the names that every Prometheus client gives them (process_...).
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        # Looked up for every request: `labels` takes longer than to count.
        self._http_of = functools.cache(self._labelled_http)
        self.instruments: list[Instrument] = []
        self._add_descriptions()
        self._add_http()
        self._add_requests()
        self._add_queue()
        self._add_batches()
        self._add_caches()
        self._add_upstreams()
        ProcessCollector(registry=self._registry)

    def http_request(self, path: str, status: int, seconds: float) -> None:
        """Count one answered HTTP request."""
        number, durations = self._http_of(path, status)
        number.inc()
        durations.observe(seconds)

    def _labelled_http(self, path: str, status: int) -> tuple[Counter, Histogram]:
        return self._http_requests.labels(path, str(status)), self._http_seconds.labels(path)

    def rejected(self, model_name: str, reason: str) -> None:
        """Count a request that ended in an error; `reason` is the error's own."""
        self._rejections.labels(model_name, reason).inc()

    def start_rejections(self, model_name: str) -> None:
        """Show the faults of the server itself before there are any."""
        for error in _SERVER_FAULTS:
            self._rejections.labels(model_name, error.reason)

    def text(self) -> bytes:
        """The exposition format that Prometheus scrapes."""
        return generate_latest(self._registry)

    def _add_descriptions(self) -> None:
        self._gauge("build_info", "Always 1", "version", "torch", "python").labels(
            __version__, version("torch"), python_version()
        ).set(1)
        self.model_info = self._gauge(
            "model_info",
            "Always 1; how a model was loaded",
            *("model_name", "device", "dtype", "quantization", "dimension", "max_model_len"),
        )
        self.ready = self._gauge(
            "model_ready", "1 while the model's engine can answer, else 0", "model_name"
        )

    def _add_http(self) -> None:
        self._http_requests = self._counter(
            "http_requests", "HTTP requests answered", "path", "status"
        )
        self._http_seconds = self._histogram(
            "http_request_duration_seconds", "From first byte in to last byte out", _SECONDS, "path"
        )
        self.in_flight = self._gauge("http_requests_in_flight", "HTTP requests being answered")
        self.connections = self._gauge("connections", "Open connections")
        self.refused_connections = self._counter(
            "refused_connections", "Connections refused or cut off, by reason", "reason"
        )

    def _add_requests(self) -> None:
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens answered for", "model_name")
        self.inputs = self._counter("inputs", "Inputs answered", "model_name")
        self.truncated = self._counter("truncated_inputs", "Inputs cut as asked", "model_name")
        self.foreign_ids = self._counter(
            "foreign_token_id_requests",
            "Answered requests whose token ids look like those of another tokenizer",
            "model_name",
        )
        self.request_seconds = self._histogram(
            "request_duration_seconds",
            "Answered embedding requests, from their first byte to their vectors",
            _SECONDS,
            "model_name",
        )
        self._rejections = self._counter(
            "rejections",
            "Requests refused or failed; model_name is empty where none was found",
            *("model_name", "reason"),
        )

    def _add_queue(self) -> None:
        self.queue_sequences = self._gauge("queue_sequences", "Inputs that wait", "model_name")
        self.queue_tokens = self._gauge("queue_tokens", "Tokens that wait", "model_name")
        self.queue_max_tokens = self._gauge(
            "queue_max_tokens", "Tokens that may wait (--max-num-queued-tokens)", "model_name"
        )

    def _add_batches(self) -> None:
        self.batch_sequences = self._histogram(
            "batch_sequences", "Inputs of a forward pass", _SEQUENCES, "model_name"
        )
        self.batch_tokens = self._histogram(
            "batch_tokens", "Tokens of a forward pass", _TOKENS, "model_name"
        )
        self.batch_max_tokens = self._gauge(
            "batch_max_tokens",
            "Tokens that a forward pass may have (--max-num-batched-tokens)",
            "model_name",
        )
        self.tokens_per_second = self._gauge(
            "tokens_per_second",
            "Running mean over the last forward passes, of which Retry-After is made",
            "model_name",
        )
        self.input_tokens = self._histogram(
            "input_tokens", "Tokens of an input", _TOKENS, "model_name"
        )
        self.phase_seconds = self._histogram(
            "phase_duration_seconds", "Time of one phase", _SECONDS, "model_name", "phase"
        )
        self.failed_batches = self._counter(
            "failed_batches", "Forward passes that raised and were split", "model_name"
        )
        self.float32_retries = self._counter(
            "float32_retries",
            "Inputs computed again in float32, after NaN or infinity",
            "model_name",
        )

    def _add_caches(self) -> None:
        self.result_cache_hits = self._counter(
            "result_cache_hits", "Inputs answered from the result cache", "model_name"
        )
        self.result_cache_misses = self._counter(
            "result_cache_misses", "Inputs that were queued to be computed", "model_name"
        )
        self.result_store_hits = self._counter(
            "result_store_hits", "Inputs answered from the store on disk", "model_name"
        )
        self.joined_inputs = self._counter(
            "joined_inputs", "Inputs answered by an equal one that waited or ran", "model_name"
        )
        self.reused_tokens = self._counter(
            "prefix_cache_tokens", "Tokens whose keys and values were at hand", "model_name"
        )
        self.prefix_cache_bytes = self._gauge(
            "prefix_cache_bytes", "Memory of the prefix cache in use", "model_name"
        )
        self.result_cache_bytes = self._gauge(
            "result_cache_bytes", "Memory of the result cache", "model_name"
        )

    def _add_upstreams(self) -> None:
        labels = ("model_name", "upstream")
        self.upstream_tokens = self._gauge(
            "upstream_outstanding_tokens",
            "Tokens that an upstream computes or has waiting for us; `upstream` is its place in the settings",
            *labels,
        )
        self.upstream_breaker = self._gauge(
            "upstream_breaker_state",
            "0: calls go to the upstream; 1: it is asked whether it can be used; 2: it is left alone",
            *labels,
        )
        self.upstream_calls = self._counter(
            "upstream_calls",
            "Calls of an upstream: answered, busy (429), refused (its inputs), failed, cancelled",
            *labels,
            "outcome",
        )
        self.upstream_retries = self._counter(
            "upstream_retries",
            "Calls that were made again, of the same or another upstream",
            "model_name",
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        self.instruments.append(Instrument(f"hexgrid_{name}_total", "counter", labels, text))
        return Counter(f"hexgrid_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        self.instruments.append(Instrument(f"hexgrid_{name}", "gauge", labels, text))
        return Gauge(f"hexgrid_{name}", text, labels, registry=self._registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        self.instruments.append(Instrument(f"hexgrid_{name}", "histogram", labels, text))
        return Histogram(f"hexgrid_{name}", text, labels, buckets=buckets, registry=self._registry)


class ModelMetrics:
    """The instruments of one served model, its label filled in."""

    def __init__(self, metrics: Metrics, model_name: str) -> None:
        self.ready = metrics.ready.labels(model_name)
        self.prompt_tokens = metrics.prompt_tokens.labels(model_name)
        self.inputs = metrics.inputs.labels(model_name)
        self.truncated = metrics.truncated.labels(model_name)
        self.foreign_ids = metrics.foreign_ids.labels(model_name)
        self.request_seconds = metrics.request_seconds.labels(model_name)
        self.queue_sequences = metrics.queue_sequences.labels(model_name)
        self.queue_tokens = metrics.queue_tokens.labels(model_name)
        self.queue_max_tokens = metrics.queue_max_tokens.labels(model_name)
        self.batch_sequences = metrics.batch_sequences.labels(model_name)
        self.batch_tokens = metrics.batch_tokens.labels(model_name)
        self.batch_max_tokens = metrics.batch_max_tokens.labels(model_name)
        self.tokens_per_second = metrics.tokens_per_second.labels(model_name)
        self.input_tokens = metrics.input_tokens.labels(model_name)
        self.failed_batches = metrics.failed_batches.labels(model_name)
        self.float32_retries = metrics.float32_retries.labels(model_name)
        self.result_cache_hits = metrics.result_cache_hits.labels(model_name)
        self.result_cache_misses = metrics.result_cache_misses.labels(model_name)
        self.result_store_hits = metrics.result_store_hits.labels(model_name)
        self.joined_inputs = metrics.joined_inputs.labels(model_name)
        self.reused_tokens = metrics.reused_tokens.labels(model_name)
        self.prefix_cache_bytes = metrics.prefix_cache_bytes.labels(model_name)
        self.result_cache_bytes = metrics.result_cache_bytes.labels(model_name)
        self.upstream_retries = metrics.upstream_retries.labels(model_name)
        self._phases = {
            phase: metrics.phase_seconds.labels(model_name, phase)
            for phase in ("tokenize", "queue", "forward", "encode")
        }
        self._info = metrics.model_info
        self._model_name = model_name
        metrics.start_rejections(model_name)

    def describe(
        self, *, device: str, dtype: str, quantization: str, dimension: int, max_model_len: int
    ) -> None:
        """Tell once how the model was loaded."""
        numbers = (str(dimension), str(max_model_len))
        self._info.labels(self._model_name, device, dtype, quantization, *numbers).set(1)

    def phase(self, phase: Phase, seconds: float) -> None:
        """Record how long one phase took."""
        self._phases[phase].observe(seconds)


class UpstreamMetrics:
    """The instruments of one upstream of a served model, its labels filled in."""

    def __init__(self, metrics: Metrics, model_name: str, number: int) -> None:
        labels = (model_name, str(number))
        self.outstanding_tokens = metrics.upstream_tokens.labels(*labels)
        self.breaker_state = metrics.upstream_breaker.labels(*labels)
        outcomes = get_args(Outcome)
        self._calls = {each: metrics.upstream_calls.labels(*labels, each) for each in outcomes}

    def call(self, outcome: Outcome) -> None:
        """Count a call that has ended."""
        self._calls[outcome].inc()
