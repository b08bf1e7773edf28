"""What is counted, and under which names; one object a process, one view of it a served model.

Labels hold served names, phases and statuses only: never keys, users or texts, whose number is unbounded.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

Phase = Literal["tokenize", "queue", "forward", "encode"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
_SEQUENCES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048)


class Metrics:
    """All instruments, on a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._http_requests = self._counter(
            "http_requests", "HTTP requests answered", "path", "status"
        )
        self._http_seconds = self._histogram(
            "http_request_duration_seconds", "From first byte in to last byte out", _SECONDS, "path"
        )
        self.in_flight = self._gauge("http_requests_in_flight", "HTTP requests being answered")
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens answered for", "model_name")
        self.inputs = self._counter("inputs", "Inputs answered", "model_name")
        self.truncated = self._counter("truncated_inputs", "Inputs cut as asked", "model_name")
        self.rejections = self._counter(
            "rejections", "Requests refused or failed, by error type", "model_name", "reason"
        )
        self.queue_sequences = self._gauge("queue_sequences", "Inputs that wait", "model_name")
        self.queue_tokens = self._gauge("queue_tokens", "Tokens that wait", "model_name")
        self.batch_sequences = self._histogram(
            "batch_sequences", "Inputs of a forward pass", _SEQUENCES, "model_name"
        )
        self.batch_tokens = self._histogram(
            "batch_tokens", "Tokens of a forward pass", _TOKENS, "model_name"
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

    def http_request(self, path: str, status: int, seconds: float) -> None:
        """Count one answered HTTP request."""
        self._http_requests.labels(path, str(status)).inc()
        self._http_seconds.labels(path).observe(seconds)

    def text(self) -> bytes:
        """The exposition format that Prometheus scrapes."""
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"hexgrid_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"hexgrid_{name}", text, labels, registry=self._registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(f"hexgrid_{name}", text, labels, buckets=buckets, registry=self._registry)


class ModelMetrics:
    """The instruments of one served model, its label filled in."""

    def __init__(self, metrics: Metrics, model_name: str) -> None:
        self.prompt_tokens = metrics.prompt_tokens.labels(model_name)
        self.inputs = metrics.inputs.labels(model_name)
        self.truncated = metrics.truncated.labels(model_name)
        self.queue_sequences = metrics.queue_sequences.labels(model_name)
        self.queue_tokens = metrics.queue_tokens.labels(model_name)
        self.batch_sequences = metrics.batch_sequences.labels(model_name)
        self.batch_tokens = metrics.batch_tokens.labels(model_name)
        self.input_tokens = metrics.input_tokens.labels(model_name)
        self.failed_batches = metrics.failed_batches.labels(model_name)
        self.result_cache_hits = metrics.result_cache_hits.labels(model_name)
        self.result_cache_misses = metrics.result_cache_misses.labels(model_name)
        self.result_store_hits = metrics.result_store_hits.labels(model_name)
        self.joined_inputs = metrics.joined_inputs.labels(model_name)
        self.reused_tokens = metrics.reused_tokens.labels(model_name)
        self.prefix_cache_bytes = metrics.prefix_cache_bytes.labels(model_name)
        self.result_cache_bytes = metrics.result_cache_bytes.labels(model_name)
        self._phases = {
            phase: metrics.phase_seconds.labels(model_name, phase)
            for phase in ("tokenize", "queue", "forward", "encode")
        }
        self._rejections = metrics.rejections
        self._model_name = model_name

    def rejected(self, reason: str) -> None:
        """Count a request that ended in an error of this type."""
        self._rejections.labels(self._model_name, reason).inc()

    def phase(self, phase: Phase, seconds: float) -> None:
        """Record how long one phase took."""
        self._phases[phase].observe(seconds)

    @contextmanager
    def timed(self, phase: Phase) -> Iterator[None]:
        """Record how long the body took."""
        start = perf_counter()
        yield
        self.phase(phase, perf_counter() - start)
