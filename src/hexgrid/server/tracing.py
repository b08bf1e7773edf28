"""Traces of requests for OpenTelemetry, sent to a collector by OTLP over HTTP, if an endpoint is set.

A span for each request, in the trace that its `traceparent` names, and below it one for each phase. Phases
are told when the request is over, from times that were noted anyway. Neither texts nor keys are attributes.
Sampling, batches and the headers that a collector wants follow the SDK's own variables, OTEL_*.
"""

import importlib.util
from collections.abc import Iterable
from time import perf_counter, time_ns
from typing import Any
from urllib.parse import urlsplit

from hexgrid import __version__
from hexgrid.errors import ConfigError
from hexgrid.server.request_record import RequestRecord

_PROPAGATED = (b"traceparent", b"tracestate")
_NEEDED = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


def check_endpoint(endpoint: str) -> None:
    """Whether traces can be sent there, as far as can be told without sending any.

    Raises:
        ConfigError: it is no http address, or OpenTelemetry is not installed.
    """
    url = urlsplit(endpoint)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ConfigError(
            "--otlp-traces-endpoint must be the address to which traces are posted, such as "
            f"http://127.0.0.1:4318/v1/traces; got {endpoint!r}",
            param="otlp_traces_endpoint",
        )
    if not all(map(_is_installed, _NEEDED)):
        raise ConfigError(
            "--otlp-traces-endpoint needs OpenTelemetry, which is not installed: "
            "pip install 'hexgrid[otel]'",
            param="otlp_traces_endpoint",
        )


class Tracing:
    """Makes the spans of requests and sends them, from a thread of the SDK's."""

    def __init__(self, endpoint: str) -> None:
        """Raises:
        ConfigError: see `check_endpoint`.
        """
        check_endpoint(endpoint)
        # Only here: an extra, and a quarter of a second.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        ours = Resource.create({"service.name": "hexgrid", "service.version": __version__})
        self._provider = TracerProvider(
            resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
        self._tracer = self._provider.get_tracer("hexgrid", __version__)
        self._server_kind, self._error = SpanKind.SERVER, StatusCode.ERROR
        self._in_context = set_span_in_context
        self._extract = TraceContextTextMapPropagator().extract

    def begin(self, record: RequestRecord, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """The request arrives: give it a span, and its record the id of the trace; but not to probes."""
        if record.is_probe:
            return
        carrier: dict[str, list[str]] = {}
        for name, value in headers:
            if name in _PROPAGATED:
                carrier.setdefault(name.decode(), []).append(value.decode("latin-1"))
        record.began_at = time_ns()
        record.span = self._tracer.start_span(
            f"{record.method} {record.path}",
            self._extract(carrier),
            self._server_kind,
            start_time=record.began_at,
        )
        context = record.span.get_span_context()
        record.trace_id = f"{context.trace_id:032x}" if context.is_valid else None

    def end(self, record: RequestRecord) -> None:
        """The request is over: tell of it and its phases."""
        now, span = perf_counter(), record.span
        if span is None or not span.is_recording():
            return
        context = self._in_context(span)
        for name, started, seconds in record.timing:
            start = _nanoseconds(record, started)
            child = self._tracer.start_span(name, context, start_time=start)
            child.end(start + round(seconds * 1e9))
        span.set_attributes({k: v for k, v in _attributes(record).items() if v is not None})
        if record.status is None or record.status >= 500:
            span.set_status(self._error)
        span.end(_nanoseconds(record, now))

    def close(self) -> None:
        """Send what waits, as far as the collector takes it."""
        self._provider.shutdown()


def _nanoseconds(record: RequestRecord, at: float) -> int:
    """A time of `perf_counter` as Unix time."""
    return record.began_at + round((at - record.timing.started) * 1e9)


def _attributes(record: RequestRecord) -> dict[str, Any]:
    """By OpenTelemetry's conventions where it has any."""
    return {
        "http.request.method": record.method,
        "http.route": record.path,
        "http.response.status_code": record.status,
        "error.type": record.error,
        "gen_ai.request.model": record.model,
        "gen_ai.usage.input_tokens": record.num_tokens,
        "hexgrid.request_id": record.request_id,
        "hexgrid.inputs": record.num_inputs,
        "hexgrid.truncated_inputs": record.num_truncated,
        "hexgrid.cached_inputs": record.timing.num_cached,
    }


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # nor is what it is part of
        return False
